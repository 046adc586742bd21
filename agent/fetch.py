"""Pulls the work of one element: from its own consumer and its pools', no more than its slots can take.

A pool's order is only taken into a free slot: fetched and not started, it would keep another member
from it.  The element's own orders have nobody else to go to, so a few are fetched ahead.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Final

import msgspec
import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.js.errors import APIError, NotFoundError

from muster.agent.hold import Arrival
from muster.agent.lease import Delivery
from muster.agent.orders import Orders
from muster.agent.slots import Slots
from muster.agent.start import Started, offered
from muster.agent.workshop import Workshop
from muster.mesh import names
from muster.mesh.errors import UnavailableError
from muster.mesh.jetstream import Puller
from muster.mesh.messages import Assignment
from muster.mesh.service import Service, until_stopped

log = structlog.get_logger()

RETURN_DELAY: Final = 0.2
"""Seconds until a message is delivered again that an element which takes no work gave back."""

POLL_INTERVAL: Final = 0.5
"""Seconds between two checks for a consumer that does not exist (yet)."""

DEFAULT_LEASE: Final = 30.0
"""Seconds that the server waits for an acknowledgement where a consumer does not say."""


class Fetch(Service):
    """Fetches work for one element while there are slots for it."""

    def __init__(self, shop: Workshop, slots: Slots, orders: Orders) -> None:
        super().__init__()
        self.shop = shop
        self.slots = slots
        self._orders = orders
        self._surplus: deque[tuple[Source, Delivery]] = deque()
        """Pool orders for which no slot is free any more."""
        self._changed = asyncio.Event()
        self._own = Source(self, names.element_consumer(slots.element), self._own_arrived)
        self._pools: dict[str, Source] = {}
        slots.on_change = self.ask

    @property
    def lease(self) -> float:
        """Seconds after which others may run what is held, unless it is renewed; 0 until that is known."""
        return self.slots.assignment.lease or self._own.lease

    async def run(self) -> None:
        """Serves the element's consumers until cancelled."""
        async with AsyncExitStack() as sources:
            await sources.enter_async_context(self._own)
            self.ready.set()
            try:
                while True:
                    await self._settle()
                    await self._changed.wait()
                    self._changed.clear()
            finally:
                for source in self._pools.values():
                    await source.__aexit__(None, None, None)

    def assign(self, assignment: Assignment) -> None:
        """The broker has changed what the element may do."""
        if assignment != self.slots.assignment:
            if assignment.lease and assignment.lease != self.lease:
                self.shop.lease.change(assignment.lease)
            self.slots.assignment = assignment
            self._changed.set()

    def close(self) -> None:
        """Fetches nothing more; what runs may continue."""
        self.slots.is_closed = True
        self._orders.close(self.slots)
        self._changed.set()

    def changed(self) -> None:
        """Checks again what to pull, and from which consumers."""
        self._changed.set()

    def renew(self) -> None:
        """Pulls anew after a reconnect."""
        for source in (self._own, *self._pools.values()):
            source.renew()

    def started(self, message: Msg, started: Started) -> None:
        """The first record of an order has come that is to run here at once.

        The broker may know before this agent that a slot is free: it has read the end that we have written, and of
        which we have no acknowledgement yet.
        """
        delivery = Delivery(message, self.lease, started.start.beat)
        is_late = self.slots.is_closed or delivery.is_overdue
        self._orders.started(Arrival(self.slots, delivery, started.packet), is_late=is_late)
        self.ask()

    def ask(self) -> None:
        """Asks for as many messages as the slots can take."""
        wanted = self.slots.wanted
        if self._awaits_messages:  # one of those that come next carries a running order's lease
            wanted = max(wanted, 1)
        if wanted or self.slots.takes_work:
            self._own.ask(wanted)
        for source in self._pools.values():
            source.ask(self.slots.free)

    @property
    def _awaits_messages(self) -> bool:
        return self.shop.lease.awaits_messages(self.slots.element)

    async def _settle(self) -> None:
        """Brings consumers, pulls and what was fetched ahead in line with the assignment."""
        wanted = set(self.slots.assignment.pools)
        for pool in self._pools.keys() - wanted:
            await self._pools.pop(pool).__aexit__(None, None, None)
        for pool in wanted - self._pools.keys():
            source = Source(self, names.pool_consumer(pool), self._pool_arrived)
            self._pools[pool] = await source.__aenter__()
        if not self.slots.takes_work:
            for source in self._pools.values() if self._awaits_messages else (self._own, *self._pools.values()):
                await source.withdraw()
            self._orders.drain(self.slots)
        while self._surplus:  # first stop asking, or it would come straight back
            source, delivery = self._surplus.popleft()
            await source.withdraw()
            delivery.give_back()
        self._orders.fill(self.slots)
        self.ask()

    def _own_arrived(self, _source: Source, delivery: Delivery) -> None:
        if (arrival := self._read(delivery)) is not None:
            if self._orders.knows(arrival.packet) or self.slots.takes_work:
                self._orders.arrived(arrival)
            else:
                delivery.give_back(RETURN_DELAY)
        self.ask()

    def _pool_arrived(self, source: Source, delivery: Delivery) -> None:
        if (arrival := self._read(delivery)) is None:
            return
        if self._orders.knows(arrival.packet) or self.slots.free > 0:
            self._orders.arrived(arrival)
            self.ask()
        else:
            self._surplus.append((source, delivery))
            self._changed.set()

    def _read(self, delivery: Delivery) -> Arrival | None:
        try:
            return Arrival(self.slots, delivery, offered(delivery.message))
        except msgspec.MsgspecError as error:
            log.warning("work.unreadable", subject=delivery.message.subject, error=str(error))
            delivery.acknowledge()
            return None


class Source(Service):
    """One consumer, pulled from while it exists."""

    def __init__(self, fetch: Fetch, consumer: str, arrived: Callable[[Source, Delivery], None]) -> None:
        super().__init__()
        self._shop = fetch.shop
        self._fetch = fetch
        self._consumer = consumer
        self._arrived = arrived
        self._puller: Puller | None = None
        self.lease = 0.0
        """Seconds for which the consumer's messages are ours; 0 until it is known."""

    async def run(self) -> None:
        """Pulls until cancelled; waits for a consumer that is gone."""
        self.ready.set()
        while True:
            try:
                await self._pull()
            except (nats.errors.Error, UnavailableError, TimeoutError, OSError) as error:
                log.debug("consumer.lost", consumer=self._consumer, error=repr(error))
            except Exception:  # a bug, but no reason to take no work any more
                log.exception("consumer.bug", consumer=self._consumer)
            await asyncio.sleep(POLL_INTERVAL)

    async def _pull(self) -> None:
        self.lease = await self._found()
        stream, client = names.WORK_STREAM, self._shop.client
        async with Puller(client, stream, self._consumer, limit=0, receive=self._received) as puller:
            self._puller = puller
            self._fetch.changed()
            try:
                await until_stopped(puller.gone, puller)
            finally:
                self._puller = None

    async def _found(self) -> float:
        """The consumer's `ack_wait`: the lease of what it delivers."""
        while True:
            try:
                stream = self._shop.client.jetstream(timeout=5)
                info = await stream.consumer_info(names.WORK_STREAM, self._consumer)
            except (nats.errors.Error, APIError, TimeoutError, OSError) as error:
                if not isinstance(error, NotFoundError):
                    log.debug("consumer.unknown", consumer=self._consumer, error=repr(error))
                await asyncio.sleep(POLL_INTERVAL)
            else:
                return float(info.config.ack_wait or DEFAULT_LEASE)

    def _received(self, message: Msg) -> None:
        self._arrived(self, Delivery(message, self._fetch.slots.assignment.lease or self.lease))

    def ask(self, limit: int) -> None:
        """Has up to `limit` messages sent."""
        if self._puller is None:
            return
        try:
            self._puller.resize(limit)
        except UnavailableError:  # `renew` pulls after the reconnect
            return

    def renew(self) -> None:
        """Pulls anew after a reconnect."""
        if self._puller is not None:
            self._puller.renew()

    async def withdraw(self) -> None:
        """Asks for nothing any more."""
        if self._puller is not None:
            await self._puller.withdraw()
