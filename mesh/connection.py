"""A connection to NATS that outlives the server's restarts, and says in words when there is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import nats
import nats.errors
import structlog
from nats.aio.client import Client

from muster.mesh.errors import UnreachableError

log = structlog.get_logger()

CONNECT_TIMEOUT = 5.0
"""Seconds for the first connection; afterwards the client reconnects for ever."""

RECONNECT_WAIT = 0.25
"""Seconds between two tries to reconnect."""


@asynccontextmanager
async def connect(
    server: str,
    *,
    name: str,
    token: str | None = None,
    on_reconnect: Callable[[], None] | None = None,
    patience: float = CONNECT_TIMEOUT,
) -> AsyncIterator[Client]:
    """Connect to `server` (one URL or several, comma-separated), and stay connected until left.

    Publishing while the server is away fails at once rather than filling a buffer nobody sees:
    callers hold what they must not lose, and try again.

    Raises:
        UnreachableError: no server answered within `patience` seconds.
    """
    away = False

    async def disconnected() -> None:
        nonlocal away
        if not away:
            away = True
            log.warning("nats.away", server=server)

    async def reconnected() -> None:
        nonlocal away
        away = False
        log.info("nats.back", server=server)
        if on_reconnect is not None:
            on_reconnect()

    async def complained(error: Exception) -> None:
        log.debug("nats.error", error=repr(error))

    client = Client()
    urls = [url.strip() for url in server.split(",") if url.strip()]
    try:
        async with asyncio.timeout(patience):
            while True:
                try:
                    await client.connect(
                        urls,
                        name=name,
                        token=token,
                        allow_reconnect=True,
                        max_reconnect_attempts=-1,
                        reconnect_time_wait=RECONNECT_WAIT,  # type: ignore[arg-type]  # seconds as a float serve as well
                        connect_timeout=2,
                        ping_interval=10,
                        max_outstanding_pings=2,
                        pending_size=-1,
                        flusher_queue_size=8192,
                        disconnected_cb=disconnected,
                        reconnected_cb=reconnected,
                        error_cb=complained,
                    )
                    break
                except (TimeoutError, OSError, nats.errors.Error):
                    await asyncio.sleep(RECONNECT_WAIT)
    except TimeoutError:
        await client.close()
        raise UnreachableError(
            f"no NATS server answers at {server}; is `muster up` or `muster server` running, and is the address right?"
        ) from None
    try:
        yield client
    finally:
        away = True  # on purpose: nobody need be told
        with suppress(OSError, RuntimeError):  # the server may have gone first; uvloop says that as a RuntimeError
            await client.close()


async def settled(client: Client) -> None:
    """Wait until the server knows this client's subscriptions.

    nats-py's `flush` may send its PING ahead of pending SUBs, so one round trip is not enough.
    Should we be cancelled, the flush goes on: a PONG for one that was given up breaks the connection.
    """
    await asyncio.shield(client.flush(timeout=5))
    await asyncio.shield(client.flush(timeout=5))
