"""A trigger service as a process: it fires by requests to brokers, and has an HTTP port for hooks."""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Final

import msgspec
import structlog
from nats.aio.client import Client

from muster.mesh.asgi import Receive, Scope, Send, mounted
from muster.mesh.connection import check_asks, connect
from muster.mesh.http import HttpServer
from muster.mesh.service import entered, rest_the_collector, stop_signals, until_stopped
from muster.mesh.settings import DEFAULT_SERVER
from muster.mesh.tokens import Token
from muster.mesh.version import FittingBroker
from muster.triggers.service import Triggers

log = structlog.get_logger()

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
TEXT: Final = "text/plain; charset=utf-8"


class TriggerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a trigger service."""

    server: str = DEFAULT_SERVER
    """One or several NATS URLs, separated by commas."""
    token: Token | None = None
    """The token of NATS."""
    open: bool = False
    """Accept a NATS server without authentication."""
    host: str = "127.0.0.1"
    port: int = 8643
    """The port of the hooks; 0 selects a free port."""
    connect_timeout: timedelta = timedelta(seconds=30)
    """How long to wait for the first connection to NATS."""
    ready_line: bool = True
    """Print `ready triggers …` on standard output once every trigger is known."""


async def serve(settings: TriggerSettings) -> None:
    """Runs a trigger service until SIGTERM or SIGINT.

    Raises:
        UnreachableError: no NATS server answers.
        RefusedError: the HTTP address is in use.
    """
    again = _Again()
    async with stop_signals() as stop, AsyncExitStack() as stack:
        connection = connect(
            settings.server,
            name="muster triggers",
            token=settings.token,
            on_reconnect=again,
            on_closed=stop.fail,
            within=settings.connect_timeout.total_seconds(),
        )
        client = await entered(stack, connection, stop)
        if client is None:
            return
        if not settings.open:
            check_asks(client, settings.server)
        triggers = again.triggers = Triggers(client)
        http = HttpServer(mounted(Health(client, triggers), triggers.mounts), settings.host, settings.port)
        await stack.enter_async_context(http)  # answers from the start that the service is not ready
        fitting = await stack.enter_async_context(FittingBroker(client, "trigger service"))
        if await entered(stack, triggers, stop) is None:
            return
        rest_the_collector()
        log.info("triggers.ready", http=http.url, triggers=len(triggers.definitions))
        if settings.ready_line:
            sys.stdout.write(f"ready triggers http={http.url}\n")
            sys.stdout.flush()
        await until_stopped(stop, triggers, http, fitting)


class _Again:
    """The callback for a reconnect to NATS."""

    triggers: Triggers | None = None

    def __call__(self) -> None:
        if self.triggers is not None:
            self.triggers.renew()


class Health:
    """`/healthz`, `/readyz` and `/metrics`."""

    def __init__(self, client: Client, triggers: Triggers) -> None:
        self._client, self._triggers = client, triggers

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            return
        status, kind, body = self._answer(scope["method"], scope["path"])
        headers = [(b"content-type", kind.encode()), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    def _answer(self, method: str, path: str) -> tuple[int, str, bytes]:
        if path not in {"/healthz", "/readyz", "/metrics"}:
            return 404, TEXT, b"hooks are at /hooks/<trigger>; the API is the broker's\n"
        if method not in {"GET", "HEAD"}:
            return 405, TEXT, b"only GET\n"
        if path == "/metrics":
            return 200, METRICS_TYPE, self._triggers.exposition()
        if path == "/readyz" and (why := self._trouble()):
            return 503, TEXT, f"{why}\n".encode()
        return 200, TEXT, b"ok\n" if path == "/healthz" else b"ready\n"

    def _trouble(self) -> str:
        """Returns why the service cannot accept events; empty if it can."""
        if not self._client.is_connected:
            return "the NATS server is unreachable"
        return "" if self._triggers.ready.is_set() else "the triggers are not loaded yet: is a broker running?"
