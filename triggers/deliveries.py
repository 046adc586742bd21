"""A delivery as an event: what every provider of hooks says in the same way, and what none may show."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from muster.blueprints.provider import HookRequest
from muster.mesh import names
from muster.mesh.moment import rfc3339
from muster.triggers.signatures import fingerprint

LONGEST_KEY: Final = 255
"""A longer one is kept as its fingerprint."""

_SECRET: Final = re.compile(
    r"authori[sz]ation|authenticat|token|secret|signature|cookie|passw|api[_-]?key|credential|\bjwt\b|session"
)


@lru_cache(maxsize=1024)
def is_secret(name: str) -> bool:
    """Whether a header or parameter may hold what nobody should read in the record."""
    return _SECRET.search(name.lower()) is not None


def shown(values: Mapping[str, str], hidden: str | None = None) -> dict[str, str]:
    """Headers, or a query's parameters, without those that hold secrets; `hidden` is one more of them."""
    return {name: value for name, value in values.items() if not is_secret(name) and name != hidden}


def event(
    request: HookRequest, provider: str, kind: str, body: Any, ident: str, hidden: str | None = None
) -> dict[str, Any]:
    """What every event of a hook has; `hidden` is the header that holds this trigger's secret."""
    return {
        "provider": provider,
        "kind": kind,
        "id": ident or names.new_id(),
        "time": rfc3339(request.received_at),
        "headers": shown(request.headers, hidden),
        "body": body,
    }


def key_of_body(request: HookRequest) -> str:
    """A firing's key if equal bodies are one delivery, whatever id they say."""
    return f"body:{fingerprint(request.body)}"


def key(*candidates: str | None) -> str:
    """The first id that there is, as a firing's key."""
    for candidate in candidates:
        if candidate:
            return candidate if len(candidate) <= LONGEST_KEY else fingerprint(candidate.encode())
    return ""
