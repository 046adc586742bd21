"""What an HTTP server runs (ASGI 3), and several of it under one roof."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

Scope = Any
"""A dictionary; frameworks have typed ones, which do not fit each other."""
Message = Any
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def mounted(app: App, others: Mapping[str, App]) -> App:
    """`app`, but requests whose path starts with a key of `others` (`/hooks/`) go to that one, path and all."""
    prefixes = tuple(others.items())

    async def choose(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        for prefix, other in prefixes:
            if path.startswith(prefix):
                return await other(scope, receive, send)
        return await app(scope, receive, send)

    return choose
