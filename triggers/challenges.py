"""Answers challenges: a sender's requests that verify the owner of a hook.  They make no firing."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

import msgspec

from muster.blueprints.provider import Answered, HookRequest

ChallengeKind = Literal["auto", "none", "slack", "zoom", "event-grid", "monday", "meta", "okta", "dropbox", "graph"]

MOST: Final = 4096
"""Characters of a challenge; a longer text is not a challenge."""

_encode = msgspec.json.Encoder().encode


class Signed(NamedTuple):
    """An authenticated delivery, and the secret that it was signed with."""

    body: Any
    secret: bytes = b""
    """Set only if the delivery was signed with Zoom's scheme."""


def _json(**fields: str) -> Answered:
    return Answered(body=_encode(fields), content_type="application/json")


def _text(challenge: str) -> Answered:
    return Answered(body=challenge.encode(), content_type="text/plain; charset=utf-8")


def _short(value: Any) -> str:
    return value if isinstance(value, str) and 0 < len(value) <= MOST else ""


def _slack(signed: Signed) -> Answered | None:
    """https://docs.slack.dev/reference/events/url_verification; Lark and Feishu send the same."""
    body = signed.body
    if not isinstance(body, dict) or body.get("type") != "url_verification":
        return None
    challenge = _short(body.get("challenge"))
    return _json(challenge=challenge) if challenge else None


_ZOOM_TOKEN: Final = re.compile(r"[\w-]{1,100}", re.ASCII)
"""Excludes `v0:TIME:BODY`, because the answer is an HMAC with the secret that signs deliveries."""


def _zoom(signed: Signed) -> Answered | None:
    """https://developers.zoom.us/docs/api/webhooks/#validate-your-webhook-endpoint."""
    body = signed.body
    if not signed.secret or not isinstance(body, dict) or body.get("event") != "endpoint.url_validation":
        return None
    payload = body.get("payload")
    token = payload.get("plainToken") if isinstance(payload, dict) else None
    if not isinstance(token, str) or not _ZOOM_TOKEN.fullmatch(token):
        return None
    return _json(plainToken=token, encryptedToken=hmac.new(signed.secret, token.encode(), hashlib.sha256).hexdigest())


def _event_grid(signed: Signed) -> Answered | None:
    """https://learn.microsoft.com/azure/event-grid/end-point-validation-event-grid-events-schema."""
    match signed.body:
        case [{"eventType": "Microsoft.EventGrid.SubscriptionValidationEvent", "data": {"validationCode": code}}]:
            return _json(validationResponse=code) if _short(code) else None
    return None


def _monday(signed: Signed) -> Answered | None:
    """https://developer.monday.com/api-reference/reference/webhooks: the answer is the body."""
    match signed.body:
        case {"challenge": challenge} if len(signed.body) == 1 and _short(challenge):
            return _json(challenge=challenge)
    return None


_IN_BODY: Final[Mapping[str, Callable[[Signed], Answered | None]]] = MappingProxyType(
    {"slack": _slack, "zoom": _zoom, "event-grid": _event_grid, "monday": _monday}
)
_AUTO: Final = ("slack", "zoom", "event-grid")
"""Challenges that no delivery can be confused with."""


def _meta(request: HookRequest) -> str:
    """https://developers.facebook.com/docs/graph-api/webhooks/getting-started#verification-requests."""
    return request.query.get("hub.challenge", "") if request.query.get("hub.mode") == "subscribe" else ""


_BY_GET: Final[Mapping[str, Callable[[HookRequest], str]]] = MappingProxyType(
    {
        "meta": _meta,
        "okta": lambda request: request.headers.get("x-okta-verification-challenge", ""),
        "dropbox": lambda request: request.query.get("challenge", ""),
    }
)


def comes_by_get(kind: ChallengeKind) -> bool:
    """Returns whether the challenge is a GET request."""
    return kind in _BY_GET


def of_request(kind: ChallengeKind, request: HookRequest) -> Answered | None:
    """Returns the answer to an unsigned challenge; None if the request is not a challenge."""
    if kind == "graph":  # https://learn.microsoft.com/graph/change-notifications-delivery-webhooks
        token = _short(request.query.get("validationToken"))
        return _text(token) if token and not request.body else None
    if request.method != "GET" or kind not in _BY_GET:
        return None
    challenge = _short(_BY_GET[kind](request))
    if not challenge:
        return None
    return _json(verification=challenge) if kind == "okta" else _text(challenge)


def verify_token(kind: ChallengeKind, request: HookRequest) -> str | None:
    """Returns the token that the sender sends with its challenge; None if there is none."""
    return request.query.get("hub.verify_token", "") if kind == "meta" else None


def of_delivery(kind: ChallengeKind, signed: Signed) -> Answered | None:
    """Returns the answer to a challenge that was sent as an authenticated delivery; None if it is not a challenge."""
    kinds = _AUTO if kind == "auto" else (kind,)
    answers = (_IN_BODY[name](signed) for name in kinds if name in _IN_BODY)
    return next((answer for answer in answers if answer is not None), None)
