"""`provider: github`: webhooks of GitHub, and of forges that send the same."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import msgspec

from muster.blueprints.provider import HookRequest, Ignored
from muster.mesh.errors import InvalidError, UnauthorizedError
from muster.triggers.bodies import FORM, fields, from_json
from muster.triggers.deliveries import key
from muster.triggers.event_bodies import GITHUB
from muster.triggers.forge import Delivery, Forge, Understood, record
from muster.triggers.github_events import HEADERS, KINDS, NARROWER_HEADERS, PING
from muster.triggers.github_facts import kind_of, understood
from muster.triggers.packing import unpacked
from muster.triggers.schemes import SCHEMES
from muster.triggers.signatures import Proof, check_signature

FORGES: Final = tuple(SCHEMES[name] for name in ("github", "gitea", "forgejo", "gogs"))
"""The signature schemes of forges; the first scheme whose header is present is used."""

NO_TIME: Final = timedelta()
"""None of them signs a time."""

IDENTS: Final = ("x-github-delivery", "x-gitea-delivery", "x-forgejo-delivery", "x-gogs-delivery")


class Github(Forge):
    """Fires for deliveries of GitHub; `secret` is the webhook's secret."""

    name = "github"
    known = KINDS
    bodies = GITHUB

    def check(self, secrets: Sequence[bytes], request: HookRequest) -> Proof:
        """Verifies the signature of the body, or of the JSON in its form, which Gitea and Gogs sign."""
        scheme = next((one for one in FORGES if one.header.lower() in request.headers), FORGES[0])
        try:
            return check_signature(secrets, request, scheme, NO_TIME)
        except UnauthorizedError as refused:
            if not _is_form(request):
                raise
            try:
                payload = _payload(unpacked(request, self.max_body))
            except InvalidError:
                raise refused from None
            return check_signature(secrets, msgspec.structs.replace(request, body=payload), scheme, NO_TIME)

    def ident(self, request: HookRequest) -> str:
        """Returns the id of the delivery."""
        return key(*map(request.headers.get, IDENTS))

    def about(self, body: Any) -> Understood:
        """Parses a body by fields that only one kind has."""
        return understood(kind_of(body), body)

    def understand(self, request: HookRequest) -> Delivery | Ignored:
        """Parses the event and its facts."""
        headers = request.headers
        kind = key(*map(headers.get, HEADERS))
        if not kind:
            raise InvalidError("the header X-GitHub-Event is missing: this is not a delivery of GitHub")
        body = record(_body(request))
        if kind == PING:
            return Ignored(reason=PING)
        names = frozenset({kind, *filter(None, map(headers.get, NARROWER_HEADERS))})
        return Delivery(kind=kind, names=names, body=body, about=understood(kind, body))


def _is_form(request: HookRequest) -> bool:
    return request.headers.get("content-type", "").startswith(FORM)


def _body(request: HookRequest) -> Any:
    """Returns the JSON, which is in a field of a form if the webhook is configured so."""
    content_type = request.headers.get("content-type", "")
    return from_json(_payload(request)) if _is_form(request) else from_json(request.body, content_type)


def _payload(request: HookRequest) -> bytes:
    payload = fields(request.body).get("payload")
    if not isinstance(payload, str):
        raise InvalidError("the form has no field 'payload'")
    return payload.encode()
