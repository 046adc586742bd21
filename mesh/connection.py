"""A connection to NATS that survives restarts of the server, with errors in words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import nats
import nats.errors
import structlog
from nats.aio.client import Client

from muster.mesh.addresses import shown
from muster.mesh.errors import MusterError, RefusedError, UnauthorizedError, UnreachableError
from muster.mesh.peers import StrangerError, check_peer
from muster.mesh.tokens import NATS, Token
from muster.mesh.tokens import refused as refusal
from muster.mesh.wire import Connection

log = structlog.get_logger()

CONNECT_TIMEOUT = 5.0
"""Seconds for the first connection; later the client reconnects without a limit."""

RECONNECT_WAIT = 0.25
"""Seconds between two attempts to reconnect."""


@asynccontextmanager
async def connect(
    server: str,
    *,
    name: str,
    token: Token | None = None,
    on_reconnect: Callable[[], None] | None = None,
    on_closed: Callable[[MusterError], None] | None = None,
    within: float = CONNECT_TIMEOUT,
) -> AsyncIterator[Client]:
    """Connects to `server` (one URL or several, comma-separated), and stays connected until left.

    Publishing while the server is unreachable fails at once and fills no buffer: callers keep what they must not
    lose, and retry.

    Args:
        server: where to connect to.
        name: what the server calls this client.
        token: of NATS.
        on_reconnect: called each time that the connection is back.
        on_closed: called with the reason when the connection was closed for good: the process must end.
        within: seconds for the first connection.

    Raises:
        UnreachableError: no server answered in time.
        UnauthorizedError: a server answered, and refuses the token.
        StrangerError: another account of this host answered.
    """
    watch = _Watch(shown(server), on_reconnect, on_closed)
    client = Connection()
    client.check = partial(check_peer, owner=token.owner if token else None)
    try:
        async with asyncio.timeout(within):
            await _dial_unless_refused(client, server, watch, name=name, token=token)
            watch.connected()
    except (RefusedError, TimeoutError, asyncio.CancelledError) as error:
        watch.away = watch.left = True
        await client.close()
        if not isinstance(error, TimeoutError):
            raise
        raise UnreachableError(
            f"no NATS server answers at {watch.server}; "
            "is `muster up` or `muster server` running, and is the address right?"
        ) from None
    try:
        yield client
    finally:
        watch.away = watch.left = True  # on purpose: not reported
        with suppress(OSError, RuntimeError):  # the server may have gone first; uvloop says that as a RuntimeError
            await client.close()


class _Watch:
    """Reports when the server goes and comes, once each time, and when the connection was closed for good."""

    def __init__(
        self,
        server: str,
        on_reconnect: Callable[[], None] | None,
        on_closed: Callable[[MusterError], None] | None,
    ) -> None:
        self.away = False
        self.left = False
        """Set when we close the connection ourselves."""
        self.reached = False
        """Set with the first connection."""
        self.refused = asyncio.Event()
        """Set when the server does not take the token, or is not the mesh's."""
        self.stranger: StrangerError | None = None
        self.server = server
        self._on_reconnect, self._on_closed = on_reconnect, on_closed

    def connected(self) -> None:
        self.reached, self.stranger = True, None
        if self.away:
            self.away = False
            log.info("nats.back", server=self.server)

    async def disconnected(self) -> None:
        if not self.away:
            self.away = True
            log.warning("nats.away", server=self.server)

    async def reconnected(self) -> None:
        self.away, self.stranger = False, None
        log.info("nats.back", server=self.server)
        if self._on_reconnect is not None:
            self._on_reconnect()

    async def closed(self, client: Client) -> None:
        """nats-py closes for good what a server refuses, and never connects again."""
        if self.left:
            return
        why = f"the connection to the NATS server at {self.server} was closed for good: {client.last_error}"
        log.error("nats.closed", server=self.server, error=str(client.last_error), next="this process ends")
        if self._on_closed is not None:
            self._on_closed(UnreachableError(why))

    async def complained(self, error: Exception) -> None:
        if isinstance(error, StrangerError):
            if self.stranger is None:
                log.warning("nats.stranger", server=self.server, why=str(error))
            self.stranger = error
            self.refused.set()
        elif "authorization violation" in str(error).lower():
            self.refused.set()
        elif not self.reached and not self.away:
            self.away = True
            log.info("nats.waiting", server=self.server)
        log.debug("nats.error", error=repr(error))


async def _dial_unless_refused(client: Client, server: str, watch: _Watch, *, name: str, token: Token | None) -> None:
    """Stops when the server refuses the token: nats-py would try it for ever."""
    dialling = asyncio.ensure_future(_dial(client, server, watch, name=name, token=token))
    refused = asyncio.ensure_future(watch.refused.wait())
    try:
        await asyncio.wait({dialling, refused}, return_when=asyncio.FIRST_COMPLETED)
        if dialling.done():
            return dialling.result()
        if watch.stranger is not None:
            raise watch.stranger
        raise UnauthorizedError(refusal(NATS, f"the NATS server at {shown(server)}", token))
    finally:
        for task in (dialling, refused):
            task.cancel()
        await asyncio.wait({dialling, refused})


def is_open(client: Client) -> bool:
    """Whether the server asks for no token."""
    return isinstance(client, Connection) and client.is_open


def check_asks(client: Client, server: str) -> None:
    """Refuses a server that asks for no token.

    Raises:
        RefusedError: it is one.
    """
    if is_open(client):
        raise RefusedError(
            f"the NATS server at {shown(server)} asks for no token, so whoever reaches it could run programs here; "
            "have it ask for one (`muster server` and `muster up` do), or say --open if this is meant"
        )


async def _dial(client: Client, server: str, watch: _Watch, *, name: str, token: Token | None) -> None:
    """Connects, with retries until a server answers."""
    urls = [url.strip() for url in server.split(",") if url.strip()]
    while True:
        try:
            await client.connect(
                urls,
                name=name,
                token=token.text if token else None,
                allow_reconnect=True,
                max_reconnect_attempts=-1,
                reconnect_time_wait=RECONNECT_WAIT,  # type: ignore[arg-type]  # seconds as a float serve as well
                connect_timeout=2,
                ping_interval=10,
                max_outstanding_pings=2,
                pending_size=-1,
                flusher_queue_size=8192,
                disconnected_cb=watch.disconnected,
                reconnected_cb=watch.reconnected,
                error_cb=watch.complained,
                closed_cb=partial(watch.closed, client),
            )
        except (TimeoutError, OSError, nats.errors.Error):
            await asyncio.sleep(RECONNECT_WAIT)
        else:
            return


async def settled(client: Client) -> None:
    """Wait until the server knows this client's subscriptions.

    nats-py's `flush` may send its PING ahead of pending SUBs, so one round trip is not enough.
    The flush continues if the caller is cancelled: a PONG for a flush that was given up breaks the connection.
    """
    await asyncio.shield(client.flush(timeout=5))
    await asyncio.shield(client.flush(timeout=5))
