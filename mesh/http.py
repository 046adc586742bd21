"""An HTTP server in the event loop of the process, for the broker's API and for hooks.

Agents have no HTTP server: their modules must not import this file.
"""

from __future__ import annotations

import asyncio
import logging
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import structlog
import uvicorn

from muster.mesh.addresses import bind
from muster.mesh.asgi import App
from muster.mesh.complaints import Complaints
from muster.mesh.http_bounds import BoundedProtocol, bounded
from muster.mesh.service import Service

log = structlog.get_logger()

TICK: Final = 1.0
"""Seconds between two updates of the Date header."""

GRACE: Final = 3.0
"""Seconds that running requests get when the server stops."""

WAITING: Final = 4096
"""Connections that the kernel queues before they are accepted; it refuses more."""

MOST_OPEN: Final = 65536
"""The limit of open files that a server requests."""


class HttpServer(Service):
    """Uvicorn without its signal handlers, on a socket that is bound before it starts."""

    def __init__(
        self, app: App, host: str, port: int, *, grace: float = GRACE, stopping: Callable[[], None] | None = None
    ) -> None:
        """Binds the socket.

        Args:
            app: the ASGI application.
            host: an address of this machine.
            port: 0 selects a free port; `url` contains it.
            grace: seconds that running requests get at the end.
            stopping: called at the stop, to end requests without an end of their own.

        Raises:
            RefusedError: the address is in use, or does not belong to this machine.
        """
        super().__init__()
        self._grace, self._stopping = grace, stopping
        self._socket = bind(host, port)
        _raise_file_limit()
        config = uvicorn.Config(
            app,
            http=bounded(BoundedProtocol),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            backlog=WAITING,
            timeout_graceful_shutdown=max(1, round(grace)),
            timeout_keep_alive=30,
        )
        self._server = _Server(config, self.ready)

    @property
    def url(self) -> str:
        """Returns the URL of the server, with the actual port."""
        host, port = self._socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def run(self) -> None:
        """Serves until cancelled, and then waits for running requests."""
        _bridge_logging()
        serving = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        try:
            await asyncio.shield(serving)
        finally:
            if self._stopping is not None:
                self._stopping()
            self._server.stop()
            await asyncio.wait({serving}, timeout=self._grace + 2)
            serving.cancel()
            self._socket.close()


class _Server(uvicorn.Server):
    """Uvicorn's server without signals, with one tick a second instead of ten."""

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
    """Converts uvicorn's log records: one line, no traceback, and rate limits for errors that callers can cause."""

    def __init__(self) -> None:
        super().__init__()
        self._complaints = Complaints()

    def emit(self, record: logging.LogRecord) -> None:
        error: Any = record.exc_info[1] if record.exc_info else None
        if error is None:
            self._complaints.log("http.server", said=record.getMessage())
        else:
            log.warning("http.server", said=record.getMessage(), error=repr(error))


def _raise_file_limit() -> None:
    """Raises the limit of open files as far as the system allows; the default is often 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_OPEN if hard == resource.RLIM_INFINITY else min(hard, MOST_OPEN)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _bridge_logging() -> None:
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.propagate = False
        logger.setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").handlers = [_Bridge()]
