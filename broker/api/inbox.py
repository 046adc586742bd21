"""Takes `muster.inbox.orders` and `muster.inbox.events.<name>`: durable, what a plain `nats pub` writes.

A message is acknowledged only after its order or event, or the reason why there is none, is on the log.
"""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from functools import partial
from typing import Final

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from muster.blueprints.rates import Rates, rate_of
from muster.broker import consumers
from muster.broker.commands import Commands
from muster.broker.lease import Lease
from muster.broker.operations.decode import decode, value
from muster.broker.operations.fields import idempotency_key
from muster.mesh import jetstream, names
from muster.mesh.budget import Budget
from muster.mesh.caller import Caller
from muster.mesh.errors import InvalidError, MusterError, NotFoundError, UnavailableError, UnreachableError
from muster.mesh.jetstream import Puller
from muster.mesh.model import OrderRequest
from muster.mesh.service import Service

log = structlog.get_logger()

AT_ONCE: Final = 64
"""Messages under way at a time."""

AT_ONCE_SIZE: Final = 16 * 2**20
"""Bytes of them, and as many of those that come next."""

RETRY_DELAY: Final = timedelta(seconds=2)
"""Time before a message that could not be used is delivered again."""

BY: Final = Caller(door="inbox")

TRIES: Final = 5
"""Times that a message may bring a bug to light before it is kept with that as the reason."""

KEPT: Final = 65_536
"""Bytes of a bad message that are kept with the reason."""

EVENT_VOLUME: Final = rate_of("64MB/1m")
"""Bytes of the events of one name that are taken: each is kept for good, and who publishes them is not known."""

EVENT_RATE: Final = rate_of("100000/1m")

EVENT_REPORTS: Final = rate_of("1/10s")
"""How often it is reported that some were not."""

EVENTS: Final = names.INBOX_EVENTS.removesuffix(">")


def _key(message: Msg, prefix: str = "") -> str:
    """The message's own id, or its place; in a stream that was made anew the same place is another time's."""
    given = idempotency_key((message.headers or {}).get(jetstream.MSG_ID), jetstream.MSG_ID)
    sequence, nanoseconds = jetstream.stamp(message)
    return given or f"{prefix}{sequence}.{nanoseconds}"


async def make_orders(commands: Commands, message: Msg) -> None:
    """`muster.inbox.orders`: the orders that it asks for."""
    request = decode(OrderRequest, message.data)
    await commands.orders.create(request, by=BY, key=_key(message, "inbox."))


async def announce(commands: Commands, message: Msg) -> None:
    """`muster.inbox.events.<name>`: an event of that name."""
    name = message.subject.removeprefix(EVENTS)
    if not names.is_name(name):
        raise InvalidError(f"{name[:80]!r} is not an event's name: {names.NAME_RULE}")
    body = value(message.data)
    await commands.announcements.announce(name, body, key=_key(message))


async def deal_with(commands: Commands, message: Msg) -> None:
    """Put on the log what a message asks for.

    Raises:
        MusterError: it cannot be used.
    """
    if message.subject == names.INBOX_ORDERS:
        await make_orders(commands, message)
    elif message.subject.startswith(EVENTS):
        await announce(commands, message)
    else:
        raise NotFoundError(f"nobody reads {message.subject[:200]}; there are {names.INBOX_ORDERS} and {EVENTS}<name>")


class Inbox(Service):
    """Puts on the log what the inbox asks for."""

    def __init__(self, client: Client, commands: Commands, lease: Lease) -> None:
        super().__init__()
        self._client, self._commands, self._lease = client, commands, lease
        self._puller: Puller | None = None
        self._rates = Rates()

    def renew(self) -> None:
        """The connection is back: the server may have forgotten what was asked of it."""
        if self._puller is not None:
            self._puller.renew()

    async def run(self) -> None:
        """Take messages until cancelled."""
        while True:
            async with Puller(
                self._client, names.INBOX_STREAM, names.INBOX_CONSUMER, limit=AT_ONCE, size=AT_ONCE_SIZE
            ) as puller:
                self._puller = puller
                self.ready.set()
                await self._read(puller)
            await self._make_consumer()

    async def _read(self, puller: Puller) -> None:
        """Deal with messages until the consumer is gone."""
        room, budget = asyncio.Semaphore(AT_ONCE), Budget(AT_ONCE_SIZE)

        def ended(size: int, _: asyncio.Task[None]) -> None:
            room.release()
            budget.give(size)

        async with asyncio.TaskGroup() as group:
            while not puller.gone.is_set():
                for message in await puller.batch():
                    await room.acquire()
                    await budget.take(len(message.data))
                    group.create_task(self._take(message)).add_done_callback(partial(ended, len(message.data)))

    async def _take(self, message: Msg) -> None:
        try:
            await self._deal_with(message)
            await jetstream.acknowledge(message)
        except (UnreachableError, nats.errors.Error) as error:
            log.info("inbox.again", error=str(error))
            await self._again(message)
        except Exception:  # a bug with one message must not stop the others, nor lose it
            log.exception("inbox.bug", sequence=jetstream.sequence(message))
            await self._again(message)

    async def _deal_with(self, message: Msg) -> None:
        """Do what it asks for, or keep it with the reason; either is on the log afterwards."""
        if message.subject.startswith(EVENTS) and self._is_too_much(message):
            await self._refuse_for_now(message)
            return
        try:
            await deal_with(self._commands, message)
        except (UnreachableError, nats.errors.Error, OSError):
            raise
        except MusterError as error:
            await self._keep(message, str(error))
        except Exception as error:
            if jetstream.deliveries(message) < TRIES:
                raise
            log.exception("inbox.bug", sequence=jetstream.sequence(message))
            await self._keep(message, f"a bug of the broker's: {error!r}")

    def _is_too_much(self, message: Msg) -> bool:
        """Whether too many events of its name came lately; if not, it is counted."""
        now = time.monotonic()
        bounds = ((EVENT_VOLUME, len(message.data)), (EVENT_RATE, 1))
        if any(self._rates.wait((message.subject, rate), rate, now) for rate, _ in bounds):
            return True
        for rate, amount in bounds:
            self._rates.spend((message.subject, rate), rate, amount, now)
        return False

    async def _refuse_for_now(self, message: Msg) -> None:
        """Drop it, and report so, once for many: a record for each would fill the disk as well."""
        now, key = time.monotonic(), (message.subject, "reported")
        if self._rates.wait(key, EVENT_REPORTS, now):
            return
        self._rates.spend(key, EVENT_REPORTS, 1, now)
        reason = "more than 64 MB or 100,000 events of this name came within a minute; this one and others are dropped"
        log.warning("inbox.flooded", subject=message.subject[:200])
        await self._commands.announcements.reject(message.subject, reason, "")

    async def _keep(self, message: Msg, reason: str) -> None:
        body = message.data[:KEPT].decode(errors="backslashreplace")
        await self._commands.announcements.reject(message.subject, reason, body)

    async def _again(self, message: Msg) -> None:
        try:
            await message.nak(delay=RETRY_DELAY.total_seconds())
        except nats.errors.Error:
            return  # the server sends it again once the lease ended

    async def _make_consumer(self) -> None:
        try:
            await consumers.ensure_inbox(self._client, self._lease.granted)
        except (UnavailableError, nats.errors.Error, OSError) as error:
            log.warning("inbox.no_consumer", error=repr(error))
            await asyncio.sleep(RETRY_DELAY.total_seconds())
