"""`provider: gitlab`: project, group and system hooks of GitLab."""

from __future__ import annotations

from datetime import timedelta
from types import MappingProxyType
from typing import Any, Final

from muster.blueprints.provider import HookRequest, Ignored
from muster.triggers.bodies import from_json
from muster.triggers.deliveries import key
from muster.triggers.forge import Delivery, Forge, Understood, record
from muster.triggers.gitlab_events import KINDS, NAMES, kind_of
from muster.triggers.gitlab_facts import understood
from muster.triggers.signatures import KEY_PREFIX, STANDARD_ID, check_standard, check_token, fingerprint

TOKEN: Final = "X-Gitlab-Token"  # noqa: S105 - the header's name
TOLERANCE: Final = timedelta(minutes=5)
"""How far a signed delivery's time may be from ours (Standard Webhooks)."""


class Gitlab(Forge):
    """Takes what GitLab sends.

    `secret` is the webhook's secret token (`X-Gitlab-Token`), or its signing token, which begins with `whsec_`
    (GitLab 19; signed as Standard Webhooks has it).
    """

    name = "gitlab"
    known = MappingProxyType({**{name: f"narrower than {kind}" for name, kind in NAMES.items()}, **KINDS})

    def check(self, secret: bytes | None, request: HookRequest) -> str:
        """The token, or the signature, whose id is then the only one that counts."""
        headers = request.headers
        if secret is not None:
            if secret.startswith(KEY_PREFIX):
                return key(check_standard(secret, request, TOLERANCE))
            check_token(secret, headers.get("x-gitlab-token"), TOKEN)
        if ident := key(headers.get("idempotency-key"), headers.get(STANDARD_ID)):
            return ident
        # Before GitLab 17.4.  Hooks that a hook caused share the UUID (webhooks.md, Delivery headers): the body tells.
        uuid = headers.get("x-gitlab-event-uuid")
        return f"{key(uuid)}:{fingerprint(request.body)}" if uuid else ""

    def about(self, body: Any) -> Understood:
        """As a system hook's, whose header says nothing either."""
        kind, _ = kind_of("", body)
        return understood(kind, body)

    def understand(self, request: HookRequest) -> Delivery | Ignored:
        """Which event it is, and what it is about."""
        body = record(from_json(request.body, request.headers.get("content-type", "")))
        kind, names = kind_of(request.headers.get("x-gitlab-event", ""), body)
        return Delivery(kind=kind, names=names, body=body, about=understood(kind, body))
