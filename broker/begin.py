"""An order for one element that is there and has room begins with its first record: no offer, no claim.

Nobody else could claim it.  So the record names the agent that runs it from now on, and the server itself passes
the record on to that agent, once it is stored.  Two legs of the network and two stored messages less than an
offer and its claim.

An order that lasts gets a message in the work stream after all: it carries the lease that the agent renews,
and finds an agent that the record did not reach.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final

import structlog
from msgspec.structs import replace

from muster.blueprints.objects.trigger import Trigger
from muster.broker.lease import Lease
from muster.broker.log import PATIENCE
from muster.broker.offer import addressed, packet
from muster.broker.planning.first import First
from muster.broker.presence import Presences
from muster.broker.state.changes import Changes
from muster.broker.state.order import runs_directly
from muster.broker.state.world import World
from muster.broker.storage import note
from muster.mesh import names
from muster.mesh.errors import UnavailableError
from muster.mesh.jetstream import MSG_ID, Publisher
from muster.mesh.model import Direct, Order
from muster.mesh.records import Created, Fired
from muster.mesh.service import Service

log = structlog.get_logger()

LENT: Final = 1 / 20
"""The part of a lease after which an order that still runs gets its message."""

BURST: Final = 500
"""Messages lent in one turn of the loop."""


class Beginnings(Service):
    """Lets orders begin, and lends those that last their message."""

    def __init__(self, publisher: Publisher, state: World, presences: Presences, lease: Lease) -> None:
        super().__init__()
        self._publisher = publisher
        self._state = state
        self._presences = presences
        self._lease = lease
        self._coming: dict[str, dict[str, float]] = {}
        """By element, orders that were begun and not seen on the log yet, and until when to look out for them."""
        self._young: deque[tuple[float, str]] = deque()
        """When an order is to have a message (loop time), the soonest first."""
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def begun(self, record: First) -> First:
        """The record with the agent in it, if its only order can begin; else as it is."""
        where = _where(record, self._state)
        if where is None:
            return record
        order, name = where
        standing, manifest = self._state.elements.get(name), self._state.fleet.manifest_of(name)
        if standing is None or manifest is None or standing.agent is None or not standing.takes_work:
            return record
        beat = self._presences.beat(name, standing.agent)
        if not beat or self._open(name) >= manifest.slots:
            return record
        self._coming.setdefault(name, {})[order] = self._loop.time() + PATIENCE
        return replace(record, start=Direct(agent=standing.agent, beat=beat))

    def _open(self, element: str) -> int:
        """Orders that are there or on their way, whether they run or wait."""
        coming = self._coming.get(element)
        count = self._state.held.open_for(element)
        if not coming:
            return count
        now = self._loop.time()
        while coming and next(iter(coming.values())) < now:  # never seen: it could not be written
            del coming[next(iter(coming))]
        return count + len(coming)

    def look(self, applied: Sequence[Changes]) -> None:
        """Take note of orders that some records began."""
        for changes in applied:
            for order in changes.orders.values():
                if order.created_at != changes.stamp.time:
                    continue
                if coming := self._coming.get(order.element or ""):
                    coming.pop(order.id, None)
                if runs_directly(order):
                    self._young.append((self._loop.time() + self._after(), order.id))
                    self._wake.set()

    def look_everywhere(self) -> None:
        """Take nothing for done."""
        self._young.extendleft((0.0, ident) for ident, order in self._state.orders.items() if runs_directly(order))
        self._wake.set()

    def _after(self) -> float:
        """Seconds after which an order that still runs gets its message."""
        return self._lease.shorter.total_seconds() * LENT

    async def run(self) -> None:
        """Lend messages until cancelled."""
        self.ready.set()
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._young:
                await asyncio.sleep(self._young[0][0] - self._loop.time())
                await self._lend()

    async def _lend(self) -> None:
        """To those whose time has come."""
        now = self._loop.time()
        due: list[Order] = []
        while self._young and self._young[0][0] <= now and len(due) < BURST:
            order = self._state.orders.get(self._young.popleft()[1])
            if order is not None and runs_directly(order):
                due.append(order)
        results = await asyncio.gather(
            *(self._publisher.publish(*_lent(order)) for order in due), return_exceptions=True
        )
        for order, result in zip(due, results, strict=True):
            if isinstance(result, UnavailableError):
                note("order.unlent", result, order=order.id)
                self._young.append((now + self._after(), order.id))
            elif isinstance(result, BaseException):
                raise result


def _lent(order: Order) -> tuple[str, bytes, dict[str, str]]:
    message = replace(packet(order), attempt=order.attempt, start=Direct(agent=order.agent or ""))
    return *addressed(order, message), {MSG_ID: names.lease_message_id(order.id)}


def _where(record: Created | Fired, state: World) -> tuple[str, str] | None:
    """The only order that a record makes, and its element, if nothing but the element can be in its way.

    Of what goes off, only the clock's: the record goes to the agent as it is, and what somebody else's event says
    is for the agent only as far as the inputs take it up.
    """
    if isinstance(record, Created):
        is_bound = record.element is not None and record.pool is None and record.not_before is None
        return (record.order, record.element or "") if is_bound else None
    if record.due is None or record.rejected or len(record.orders) != 1:
        return None
    trigger, planned = state.objects.get("trigger", record.trigger), record.orders[0]
    if not isinstance(trigger, Trigger) or trigger.max_open is not None or trigger.cooldown is not None:
        return None
    return (planned.id, planned.element) if planned.element is not None and planned.pool is None else None
