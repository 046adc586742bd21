"""A delivery as an event: what every provider of hooks says in the same way, and what none may show."""

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
"""A longer one is kept as its fingerprint."""

_SECRET: Final = re.compile(
    r"auth(?!or(?!i))|token|secret|signature|cookie|passw|credential|session|private|bearer"
    r"|(^|[-_.])(key|apikey|pass|pwd|pw|pin|sig|sign|hash|hmac|mac|jwt|otp|code|nonce|cred|access)([-_.]|$)"
)
"""Names of headers and parameters whose values may be secrets."""

_words = str.split  # a list this long reads best as words
_KNOWN: Final = frozenset(
    _words("""
    accept accept-encoding accept-language content-encoding content-language content-length content-type date expect
    forwarded from host idempotency-key origin traceparent tracestate user-agent via x-event-key x-real-ip
    """)
)
"""Headers that are kept: those of HTTP and tracing, and ids whose names look like a secret's."""

_TELLING: Final = re.compile(
    r"(ce|svix|webhook|x-amz-sns|x-forwarded|x-github|x-gitea|x-forgejo|x-gogs|x-gitlab)-[\w-]+"
    r"|([\w-]+-)?(event|events|delivery|topic|type|kind|action|object|resource|ids?|uuid|timestamp|time|date|version"
    r"|attempt|retry|retry-num|retry-reason|retry-count|domain|source)"
)
"""Headers that are kept by their form: what senders say of a delivery beside its body."""


@lru_cache(maxsize=1024)
def is_secret(name: str) -> bool:
    """Whether a header or parameter may hold what nobody should read in the record."""
    return _SECRET.search(name.lower()) is not None


@lru_cache(maxsize=1024)
def is_kept(name: str) -> bool:
    """Whether a header is kept of every delivery."""
    return name in _KNOWN or (not is_secret(name) and _TELLING.fullmatch(name) is not None)


def shown_headers(request: HookRequest, hidden: str | None = None) -> dict[str, str]:
    """The headers that are kept: known ones, and those that the trigger's manifest reads; `hidden` has its secret."""
    return {
        name: value
        for name, value in request.headers.items()
        if name != hidden and (is_kept(name) or (name in request.read and not is_secret(name)))
    }


def without_secrets(values: Mapping[str, str]) -> dict[str, str]:
    """A query's parameters, or a message's headers, without those that may hold secrets by their names."""
    return {name: value for name, value in values.items() if not is_secret(name)}


def event(
    request: HookRequest, provider: str, kind: str, body: Any, ident: str, hidden: str | None = None
) -> dict[str, Any]:
    """What every event of a hook has; `hidden` is the header that holds this trigger's secret."""
    return {
        "provider": provider,
        "kind": kind,
        "id": ident or names.new_id(),
        "time": rfc3339(request.received_at),
        "headers": shown_headers(request, hidden),
        "body": body,
    }


def key_of_body(request: HookRequest) -> str:
    """A firing's key if equal bodies are one delivery, whatever id they say: the same JSON, or else the same bytes."""
    try:
        data = canonical(from_json(request.body))
    except (*MALFORMED, ValueError):
        data = request.body
    return f"body:{fingerprint(data)}"


def key(*candidates: str | None) -> str:
    """The first id that there is, as a firing's key."""
    for candidate in candidates:
        if candidate:
            return candidate if len(candidate) <= LONGEST_KEY else fingerprint(candidate.encode())
    return ""
