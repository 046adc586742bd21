"""The bearer token: asked for on every route but those that say they are public."""

from __future__ import annotations

import hmac
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from muster.mesh.errors import UnauthorizedError

AnyConnection = ASGIConnection[Any, Any, Any, Any]


class TokenGuard:
    """Lets a request pass if it shows the broker's token."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    def __call__(self, connection: AnyConnection, handler: BaseRouteHandler) -> None:
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
