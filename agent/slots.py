"""The room of one element: so many orders at a time, from its own consumer and its pools' together.

A pool's order is only taken into a free slot: fetched and not started, it would keep another member
from it.  The element's own orders have nobody else to go to, so a few are fetched ahead.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Final, Protocol

import msgspec
import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.js.errors import APIError, NotFoundError

from muster.agent.claim import read
from muster.agent.lease import Delivery
from muster.agent.workshop import Workshop
from muster.mesh import names
from muster.mesh.errors import UnavailableError
from muster.mesh.jetstream import Puller
from muster.mesh.model import Assignment, Packet
from muster.mesh.service import Service

log = structlog.get_logger()

AHEAD: Final = 32
"""The most of an element's own orders that are fetched before they can start."""

SOON: Final = 0.2
"""Seconds until a message comes again that an element which takes no work gave back."""

AGAIN: Final = 0.5
"""Seconds between two looks for a consumer that does not exist (yet)."""


class Runs(Protocol):
    """Whatever runs orders: `Orders`."""

    def start(self, slots: Slots, delivery: Delivery) -> bool:
        """Take an order on; False if it needs no slot, for it runs here already."""
        ...

    def take_up(self, delivery: Delivery, packet: Packet) -> bool:
        """Whether the message is of an order that runs here; then it is taken for what it says to that."""
        ...


class Slots(Service):
    """Takes work for one element as long as there is room."""

    def __init__(self, shop: Workshop, assignment: Assignment, orders: Runs) -> None:
        super().__init__()
        self.assignment = assignment
        self.shop = shop
        self._orders = orders
        self._busy = 0
        self._is_closed = False
        self._begun: deque[Delivery] = deque()
        """Orders that are ours already and wait for a slot to be left."""
        self._lent: dict[str, Delivery] = {}
        """The messages that some of these were lent meanwhile, by order."""
        self._ahead: deque[Delivery] = deque()
        self._surplus: deque[tuple[Lane, Delivery]] = deque()
        self._wake = asyncio.Event()
        self._own = Lane(self, names.element_consumer(assignment.element), self._own_came)
        self._pools: dict[str, Lane] = {}

    @property
    def lease(self) -> float:
        """Seconds after which what we hold is somebody else's, unless we say that we are there; 0 until it is known."""
        return self.assignment.lease or self._own.lease

    @property
    def free(self) -> int:
        """How many more orders may start now."""
        return self.assignment.slots - self._busy - len(self._begun) if self._takes_work else 0

    @property
    def _takes_work(self) -> bool:
        return self.assignment.takes_work and not self._is_closed

    @property
    def _awaits_messages(self) -> bool:
        return self.shop.lease.awaits_messages(self.assignment.element)

    async def run(self) -> None:
        """Serve the element's consumers until cancelled."""
        async with AsyncExitStack() as lanes:
            await lanes.enter_async_context(self._own)
            self.ready.set()
            try:
                while True:
                    await self._settle()
                    await self._wake.wait()
                    self._wake.clear()
            finally:
                for lane in self._pools.values():
                    await lane.__aexit__(None, None, None)

    def assign(self, assignment: Assignment) -> None:
        """The broker has changed its mind about the element."""
        if assignment != self.assignment:
            if assignment.lease and assignment.lease != self.lease:
                self.shop.lease.change(assignment.lease)
            self.assignment = assignment
            self._wake.set()

    def close(self) -> None:
        """Take nothing any more; what runs may go on."""
        self._is_closed = True
        self._wake.set()

    def changed(self) -> None:
        """Look again at what to ask for, and of whom."""
        self._wake.set()

    def renew(self) -> None:
        """Ask again after a reconnect."""
        for lane in (self._own, *self._pools.values()):
            lane.renew()

    def begun(self, message: Msg, packet: Packet, beat: float) -> bool:
        """Run an order that is ours from its first record on; False if that is too old, or we take nothing any more.

        The broker may know before us that a slot is free: it has read the end that we have written, and of which we
        have no acknowledgement yet.
        """
        delivery = Delivery(message, self.lease, packet, beat)
        if self._is_closed or delivery.is_overdue:
            return False
        self.shop.lease.hold(delivery)
        self._begun.append(delivery)
        self._start_next()
        self._ask()
        return True

    def _start_next(self) -> None:
        """Fill the free slots: first with what is ours already, then with what was fetched ahead."""
        while self._begun and self._busy < self.assignment.slots and not self._is_closed:
            self._begin_begun(self._begun.popleft())
        while self._ahead and self.free > 0:
            self._begin(self._ahead.popleft())

    def _begin_begun(self, delivery: Delivery) -> None:
        self._begin(delivery)
        if delivery.packet is not None and (lent := self._lent.pop(delivery.packet.order, None)) is not None:
            lent.on_lost = None
            self._begin(lent)

    def freed(self) -> None:
        """An order has left its slot."""
        self._busy -= 1
        self._start_next()
        self._ask()

    async def _settle(self) -> None:
        """Bring consumers, pulls and what was fetched ahead in line with the assignment."""
        wanted = set(self.assignment.pools)
        for pool in self._pools.keys() - wanted:
            await self._pools.pop(pool).__aexit__(None, None, None)
        for pool in wanted - self._pools.keys():
            lane = Lane(self, names.pool_consumer(pool), self._pool_came)
            self._pools[pool] = await lane.__aenter__()
        if not self._takes_work:
            for lane in self._pools.values() if self._awaits_messages else (self._own, *self._pools.values()):
                await lane.withdraw()
            while self._ahead:
                self._give_back(self._ahead.pop(), SOON)
        while self._surplus:  # first stop asking, or it would come straight back
            lane, delivery = self._surplus.popleft()
            await lane.withdraw()
            self._give_back(delivery)
        self._start_next()
        self._ask()

    def _give_back(self, delivery: Delivery, delay: float = 0.0) -> None:
        self.shop.lease.release(delivery)
        delivery.give_back(delay)

    def _begin(self, delivery: Delivery) -> None:
        if delivery.is_lost:
            return
        if self._orders.start(self, delivery):
            self._busy += 1

    def _ask(self) -> None:
        free = self.free
        wanted = max(free, 0) + min(AHEAD, self.assignment.slots) - len(self._ahead) if self._takes_work else 0
        if self._awaits_messages:  # one of those that come next is a running order's lease
            wanted = max(wanted, 1)
        if self._takes_work or self._awaits_messages:
            self._own.ask(wanted)
        for lane in self._pools.values():
            lane.ask(free)

    def _own_came(self, _lane: Lane, delivery: Delivery) -> None:
        self.shop.lease.hold(delivery)
        if self.free > 0:
            self._begin(delivery)
        elif not self._is_of_here(delivery):
            self._ahead.append(delivery)
        if not self._takes_work:
            self._wake.set()
        self._ask()

    def _is_of_here(self, delivery: Delivery) -> bool:
        """Whether it is of an order that runs here or waits here for a slot: no slot need be free for its lease."""
        try:
            packet = read(delivery)
        except msgspec.MsgspecError:
            return False
        if self._orders.take_up(delivery, packet):
            return True
        for begun in self._begun:
            if packet.rev == 0 and begun.packet is not None and begun.packet.order == packet.order:
                self.shop.lease.release(begun)
                delivery.on_lost = begun.lose
                self._lent[packet.order] = delivery
                return True
        return False

    def _pool_came(self, lane: Lane, delivery: Delivery) -> None:
        self.shop.lease.hold(delivery)
        if self.free > 0:
            self._begin(delivery)
            self._ask()
        elif not self._is_of_here(delivery):
            self._surplus.append((lane, delivery))
            self._wake.set()


class Lane(Service):
    """One consumer, pulled from while it exists."""

    def __init__(self, slots: Slots, consumer: str, came: Callable[[Lane, Delivery], None]) -> None:
        super().__init__()
        self._shop = slots.shop
        self._slots = slots
        self._consumer = consumer
        self._came = came
        self._puller: Puller | None = None
        self.lease = 0.0
        """Seconds for which the consumer's messages are ours; 0 until it is known."""

    async def run(self) -> None:
        """Pull until cancelled; look again for a consumer that is gone."""
        self.ready.set()
        while True:
            try:
                await self._pull()
            except (nats.errors.Error, UnavailableError, TimeoutError, OSError) as error:
                log.debug("consumer.lost", consumer=self._consumer, error=repr(error))
            except Exception:  # a bug, but no reason to take no work any more
                log.exception("consumer.bug", consumer=self._consumer)
            await asyncio.sleep(AGAIN)

    async def _pull(self) -> None:
        self.lease = await self._found()
        stream, client = names.WORK_STREAM, self._shop.client
        async with Puller(client, stream, self._consumer, limit=0, receive=self._received) as puller:
            self._puller = puller
            self._slots.changed()
            try:
                await puller.gone.wait()
            finally:
                self._puller = None

    async def _found(self) -> float:
        """The consumer's `ack_wait`: the lease of what it hands out."""
        while True:
            try:
                stream = self._shop.client.jetstream(timeout=5)
                info = await stream.consumer_info(names.WORK_STREAM, self._consumer)
            except (nats.errors.Error, APIError, TimeoutError, OSError) as error:
                if not isinstance(error, NotFoundError):
                    log.debug("consumer.unknown", consumer=self._consumer, error=repr(error))
                await asyncio.sleep(AGAIN)
            else:
                return float(info.config.ack_wait or 30.0)

    def _received(self, message: Msg) -> None:
        self._came(self, Delivery(message, self._slots.assignment.lease or self.lease))

    def ask(self, limit: int) -> None:
        """Have up to `limit` messages sent."""
        if self._puller is None:
            return
        try:
            self._puller.resize(max(limit, 0))
        except UnavailableError:  # asked again after the reconnect
            return

    def renew(self) -> None:
        """Ask again after a reconnect."""
        if self._puller is not None:
            self._puller.renew()

    async def withdraw(self) -> None:
        """Ask for nothing any more."""
        if self._puller is not None:
            await self._puller.withdraw()
