"""Serves the HTTP surface in the broker's own event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
import uvicorn
from litestar import Litestar

from muster.broker.api.addresses import bind, is_loopback
from muster.broker.api.context import ApiSettings
from muster.broker.api.wait import Finals
from muster.mesh.service import Service

log = structlog.get_logger()

TICK = 1.0
"""Seconds between two looks at the clock for the Date header."""


class HttpServer(Service):
    """Uvicorn without its signal handlers, on a socket that is bound before it starts."""

    def __init__(self, app: Litestar, settings: ApiSettings, finals: Finals) -> None:
        super().__init__()
        self._settings, self._finals = settings, finals
        self._socket = bind(settings.host, settings.port)
        config = uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=max(1, round(settings.grace)),
            timeout_keep_alive=30,
        )
        self._server = _Server(config, self.ready)

    @property
    def url(self) -> str:
        """Where it listens, with the real port."""
        host, port = self._socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def run(self) -> None:
        """Serve until cancelled, then let running requests end."""
        _bridge_logging()
        if not is_loopback(self._settings.host) and not self._settings.token:
            log.warning(
                "http.open",
                url=self.url,
                mend="everybody who reaches this port may do everything; set MUSTER_TOKEN, or bind 127.0.0.1",
            )
        serving = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        try:
            await asyncio.shield(serving)
        finally:
            self._finals.close()
            self._server.stop()
            await asyncio.wait({serving}, timeout=self._settings.grace + 2)
            serving.cancel()
            self._socket.close()


class _Server(uvicorn.Server):
    """Uvicorn's server, stopped by us and ticking once a second instead of ten times."""

    def __init__(self, config: uvicorn.Config, ready: asyncio.Event) -> None:
        super().__init__(config)
        self._ready, self._stop = ready, asyncio.Event()

    def stop(self) -> None:
        self.should_exit = True
        self._stop.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        self._ready.set()
        while not await self.on_tick(0):
            try:
                async with asyncio.timeout(TICK):
                    await self._stop.wait()
            except TimeoutError:
                continue


class _Bridge(logging.Handler):
    """Uvicorn's complaints as our log lines: one line, no traceback."""

    def emit(self, record: logging.LogRecord) -> None:
        error: Any = record.exc_info[1] if record.exc_info else None
        log.warning("http.server", said=record.getMessage(), **({"error": repr(error)} if error else {}))


def _bridge_logging() -> None:
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.propagate = False
        logger.setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").handlers = [_Bridge()]
