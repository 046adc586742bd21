"""`provider: github`: webhooks of GitHub, and of forges that send the same."""

from __future__ import annotations

from typing import Any, Final

from muster.blueprints.provider import HookRequest, Ignored
from muster.mesh.errors import InvalidError
from muster.triggers.bodies import FORM, fields, from_json
from muster.triggers.deliveries import key
from muster.triggers.forge import Delivery, Forge, Understood, record
from muster.triggers.github_events import KINDS, PING
from muster.triggers.github_facts import kind_of, understood
from muster.triggers.signatures import Scheme, check_signature, signature

SIGNATURE: Final = "X-Hub-Signature-256"
SCHEME: Final = Scheme()


class Github(Forge):
    """Takes what GitHub sends; `secret` is the webhook's secret."""

    name = "github"
    known = KINDS

    def check(self, secret: bytes | None, request: HookRequest) -> str:
        """The signature of the body."""
        headers = request.headers
        if secret is not None:
            right = signature(secret, request.body, SCHEME)
            check_signature(headers.get("x-hub-signature-256"), right, SCHEME, SIGNATURE)
        return key(headers.get("x-github-delivery"))

    def about(self, body: Any) -> Understood:
        """By what only deliveries of one kind have."""
        return understood(kind_of(body), body)

    def understand(self, request: HookRequest) -> Delivery | Ignored:
        """Which event it is, and what it is about."""
        kind = request.headers.get("x-github-event", "")
        if not kind:
            raise InvalidError("the header X-GitHub-Event is missing: this is no delivery of GitHub")
        body = record(_body(request))
        if kind == PING:
            return Ignored(reason=PING)
        return Delivery(kind=kind, names=frozenset({kind}), body=body, about=understood(kind, body))


def _body(request: HookRequest) -> Any:
    """The JSON, which stands in a form's field if the webhook is set up so."""
    if not request.headers.get("content-type", "").startswith(FORM):
        return from_json(request.body, request.headers.get("content-type", ""))
    payload = fields(request.body).get("payload")
    if not isinstance(payload, str):
        raise InvalidError("the form has no field 'payload'")
    return from_json(payload.encode())
