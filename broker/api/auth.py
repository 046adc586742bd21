"""Who may speak to the broker: whoever shows its token, and no web page of somebody else's.

The guards are coroutines that never wait, because Litestar runs plain functions in a thread each.
"""

from __future__ import annotations

import hmac
import socket
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from muster.mesh.addresses import is_address, is_loopback
from muster.mesh.caller import Caller
from muster.mesh.errors import ForbiddenError, UnauthorizedError

AnyConnection = ASGIConnection[Any, Any, Any, Any]

_CALLER: Final = Caller(door="http")

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


def caller_of(connection: AnyConnection) -> Caller:  # noqa: ARG001 - a user's token will say who it is
    """Returns who sends a request: whoever has the mesh's token, until there are users."""
    return _CALLER


class TokenGuard:
    """Lets a request pass if it shows the broker's token."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    async def __call__(self, connection: AnyConnection, handler: BaseRouteHandler) -> None:
        """Check one request.

        Raises:
            UnauthorizedError: it shows another token, or none.
        """
        if handler.opt.get("public"):
            return
        scheme, _, given = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not given:
            raise UnauthorizedError("this broker asks for a token; send `Authorization: Bearer …` (MUSTER_TOKEN)")
        if not hmac.compare_digest(given.strip().encode(), self._token):
            raise UnauthorizedError("the token is not this broker's")


class OriginGuard:
    """Lets no web page of another site use a browser to reach a broker that asks for no token.

    A browser sends a simple POST anywhere without asking (Fetch §3.2), and a name that resolves to
    127.0.0.1 makes a foreign page same-origin (DNS rebinding).  Either would let any page that
    somebody opens run orders.
    """

    def __init__(self, host: str) -> None:
        self._host = host.lower()

    async def __call__(self, connection: AnyConnection, handler: BaseRouteHandler) -> None:  # noqa: ARG002 - a guard's form
        """Check one request.

        Raises:
            ForbiddenError: a page of another site sends it.
        """
        host = connection.headers.get("host", "")
        if not self._is_ours(_hostname(host)):
            raise ForbiddenError(f"this broker is not {host!r}; ask for it by its address")
        if connection.scope.get("method") in SAFE:
            return
        origin = connection.headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            raise ForbiddenError(f"a page of {origin!r} must not ask this")

    def _is_ours(self, name: str) -> bool:
        """Whether nobody can have the name lead here; on loopback, whether it leads nowhere else either."""
        if not name or name == self._host or is_loopback(name):
            return True
        return not is_loopback(self._host) and (is_address(name) or name in _own_names())


@lru_cache(maxsize=1)
def _own_names() -> frozenset[str]:
    name = socket.gethostname().lower()
    return frozenset({name, name.partition(".")[0]})


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return "?"
