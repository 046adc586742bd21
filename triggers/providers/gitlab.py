"""`provider: gitlab`: project, group and system hooks of GitLab."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Final

from muster.blueprints.provider import HookRequest, Ignored
from muster.triggers.bodies import from_json
from muster.triggers.deliveries import key
from muster.triggers.event_bodies import GITLAB
from muster.triggers.forge import Delivery, Forge, Understood, record
from muster.triggers.gitlab_events import KINDS, NAMES, kind_of
from muster.triggers.gitlab_facts import understood
from muster.triggers.signatures import (
    KEY_PREFIX,
    STANDARD_ID,
    STANDARD_SIGNATURE,
    Proof,
    check_standard,
    check_token,
    fingerprint,
)

TOKEN: Final = "X-Gitlab-Token"  # noqa: S105 - the header's name
TOLERANCE: Final = timedelta(minutes=5)
"""The largest difference between a signed time and the host's time (Standard Webhooks)."""


class Gitlab(Forge):
    """Fires for deliveries of GitLab.

    `secret` is the webhook's secret token (`X-Gitlab-Token`), or its signing token, which starts with `whsec_`
    (GitLab 19; signed according to Standard Webhooks).
    """

    name = "gitlab"
    bodies = GITLAB
    known = MappingProxyType({**{name: f"narrower than {kind}" for name, kind in NAMES.items()}, **KINDS})

    def check(self, secrets: Sequence[bytes], request: HookRequest) -> Proof:
        """Verifies the token, or the signature, which then covers the id."""
        keys = [secret for secret in secrets if secret.startswith(KEY_PREFIX)]
        tokens = [secret for secret in secrets if secret not in keys]
        if keys and (not tokens or STANDARD_SIGNATURE in request.headers):
            return check_standard(keys, request, TOLERANCE)
        return Proof(secret=check_token(tokens, request.headers.get("x-gitlab-token"), f"header {TOKEN}"))

    def ident(self, request: HookRequest) -> str:
        """Returns the id of the delivery."""
        headers = request.headers
        if ident := key(headers.get("idempotency-key"), headers.get(STANDARD_ID)):
            return ident
        # Before GitLab 17.4, hooks that a hook caused share the UUID (webhooks.md, Delivery headers), but not the body.
        uuid = headers.get("x-gitlab-event-uuid")
        return f"{key(uuid)}:{fingerprint(request.body)}" if uuid else ""

    def about(self, body: Any) -> Understood:
        """Parses a body like that of a system hook, whose header does not name the event either."""
        kind, _ = kind_of("", body)
        return understood(kind, body)

    def understand(self, request: HookRequest) -> Delivery | Ignored:
        """Parses the event and its facts."""
        body = record(from_json(request.body, request.headers.get("content-type", "")))
        kind, names = kind_of(request.headers.get("x-gitlab-event", ""), body)
        return Delivery(kind=kind, names=names, body=body, about=understood(kind, body))
