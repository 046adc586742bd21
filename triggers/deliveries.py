"""Deliveries as events: the fields that all hook providers share, without secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from muster.blueprints.provider import HookRequest
from muster.mesh import names
from muster.mesh.canonical import canonical
from muster.mesh.errors import MALFORMED
from muster.mesh.moment import rfc3339
from muster.mesh.nesting import from_json
from muster.triggers.signatures import fingerprint

LONGEST_KEY: Final = 255
"""A longer key is replaced by its fingerprint."""

_SECRET: Final = re.compile(
    r"auth(?!or(?!i))|token|secret|signature|cookie|passw|credential|session|private|bearer"
    r"|(^|[-_.])(key|apikey|pass|pwd|pw|pin|sig|sign|hash|hmac|mac|jwt|otp|code|nonce|cred|access)([-_.]|$)"
)
"""Names of headers and parameters whose values can be secrets."""

_words = str.split  # a list this long reads best as words
_KNOWN: Final = frozenset(
    _words("""
    accept accept-encoding accept-language content-encoding content-language content-length content-type date expect
    forwarded from host idempotency-key origin traceparent tracestate user-agent via x-event-key x-real-ip
    """)
)
"""Headers that are kept: those of HTTP and tracing, and ids whose names look like a secret's."""

_KEPT: Final = re.compile(
    r"(ce|svix|webhook|x-amz-sns|x-forwarded|x-github|x-gitea|x-forgejo|x-gogs|x-gitlab)-[\w-]+"
    r"|([\w-]+-)?(event|events|delivery|topic|type|kind|action|object|resource|ids?|uuid|timestamp|time|date|version"
    r"|attempt|retry|retry-num|retry-reason|retry-count|domain|source)"
)
"""Headers that are kept because of their form: a sender's metadata of a delivery."""


@lru_cache(maxsize=1024)
def is_secret(name: str) -> bool:
    """Returns whether a header or parameter can hold a secret."""
    return _SECRET.search(name.lower()) is not None


@lru_cache(maxsize=1024)
def is_kept(name: str) -> bool:
    """Returns whether a header is kept for every delivery."""
    return name in _KNOWN or (not is_secret(name) and _KEPT.fullmatch(name) is not None)


def shown_headers(request: HookRequest, hidden: str | None = None) -> dict[str, str]:
    """Returns known headers and those that the trigger's manifest reads, but not `hidden`, which has its secret."""
    return {
        name: value
        for name, value in request.headers.items()
        if name != hidden and (is_kept(name) or (name in request.read and not is_secret(name)))
    }


def without_secrets(values: Mapping[str, str]) -> dict[str, str]:
    """Returns parameters of a query, or headers of a message, without those whose names suggest a secret."""
    return {name: value for name, value in values.items() if not is_secret(name)}


def event(
    request: HookRequest, provider: str, kind: str, body: Any, ident: str, hidden: str | None = None
) -> dict[str, Any]:
    """Returns the fields that every event of a hook has; `hidden` is the header with the trigger's secret."""
    return {
        "provider": provider,
        "kind": kind,
        "id": ident or names.new_id(),
        "time": rfc3339(request.received_at),
        "headers": shown_headers(request, hidden),
        "body": body,
    }


def key_of_body(request: HookRequest) -> str:
    """Returns a key that equal bodies share, even if their ids differ: the same JSON, or the same bytes."""
    try:
        data = canonical(from_json(request.body))
    except (*MALFORMED, ValueError):
        data = request.body
    return f"body:{fingerprint(data)}"


def key(*candidates: str | None) -> str:
    """Returns the first present id as the key of a firing."""
    for candidate in candidates:
        if candidate:
            return candidate if len(candidate) <= LONGEST_KEY else fingerprint(candidate.encode())
    return ""
