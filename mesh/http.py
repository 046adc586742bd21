"""An HTTP server in the process's own event loop: the broker's surface, and the triggers' hooks.

Agents do without: nothing that they load may import this file.
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
"""Seconds between two looks at the clock for the Date header."""

GRACE: Final = 3.0
"""Seconds that running requests have when the server stops."""

WAITING: Final = 4096
"""Connections that the kernel holds until they are accepted; a burst of more is told to try again."""

MOST_OPEN: Final = 65536
"""Files and connections that a server wants to be able to have open."""


class HttpServer(Service):
    """Uvicorn without its signal handlers, on a socket that is bound before it starts."""

    def __init__(
        self, app: App, host: str, port: int, *, grace: float = GRACE, stopping: Callable[[], None] | None = None
    ) -> None:
        """Bind.

        Args:
            app: what answers.
            host: an address of this machine.
            port: 0 for any free port; `url` tells which.
            grace: seconds that running requests have at the end.
            stopping: called before they are waited for, to end those that would go on for ever.

        Raises:
            RefusedError: the address is taken, or is not this machine's.
        """
        super().__init__()
        self._grace, self._stopping = grace, stopping
        self._socket = bind(host, port)
        _make_room()
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
        """Where it listens, with the real port."""
        host, port = self._socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def run(self) -> None:
        """Serve until cancelled, then let running requests end."""
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
    """Uvicorn's complaints as our log lines: one line, no traceback, and seldom what any caller can cause."""

    def __init__(self) -> None:
        super().__init__()
        self._complaints = Complaints()

    def emit(self, record: logging.LogRecord) -> None:
        error: Any = record.exc_info[1] if record.exc_info else None
        if error is None:
            self._complaints.log("http.server", said=record.getMessage())
        else:
            log.warning("http.server", said=record.getMessage(), error=repr(error))


def _make_room() -> None:
    """Let the process have as many connections as the system allows it; many allow 1024 until one asks."""
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
