"""Direct starts: an order for one element with a free slot starts with its first record, without an offer or a claim.

Nobody else could claim it.  So the record names the agent that runs it, and the server itself republishes the record to
that agent once it is stored.  That saves two network legs and two stored messages.

An order that lasts gets a message on the work stream after all: it carries the lease that the agent renews, and it
reaches an agent that missed the record.
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
from muster.broker.log import APPEND_TIMEOUT
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

MESSAGE_AFTER: Final = 1 / 20
"""The part of a lease after which an order that still runs gets its message."""

BURST: Final = 500
"""Messages published in one turn of the loop."""


class DirectStarts(Service):
    """Starts orders directly, and publishes the messages of those that last."""

    def __init__(self, publisher: Publisher, state: World, presences: Presences, lease: Lease) -> None:
        super().__init__()
        self._publisher = publisher
        self._state = state
        self._presences = presences
        self._lease = lease
        self._unseen: dict[str, dict[str, float]] = {}
        """By element, orders that were started and not read from the log yet, each with its deadline (loop time)."""
        self._young: deque[tuple[float, str]] = deque()
        """When an order gets its message (loop time), the soonest first."""
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def with_start(self, record: First) -> First:
        """Returns the record with a direct start, if its only order can start at once; otherwise as it is."""
        where = _only_order(record, self._state)
        if where is None:
            return record
        order, name = where
        status, manifest = self._state.elements.get(name), self._state.fleet.manifest_of(name)
        if status is None or manifest is None or status.agent is None or not status.takes_work:
            return record
        beat = self._presences.beat(name, status.agent)
        if not beat or self._open(name) >= manifest.slots:
            return record
        self._unseen.setdefault(name, {})[order] = self._loop.time() + APPEND_TIMEOUT
        return replace(record, start=Direct(agent=status.agent, beat=beat))

    def _open(self, element: str) -> int:
        """How many open orders an element has, with those that were not read from the log yet."""
        unseen = self._unseen.get(element)
        count = self._state.held.open_for(element)
        if not unseen:
            return count
        now = self._loop.time()
        while unseen and next(iter(unseen.values())) < now:  # it could not be written
            del unseen[next(iter(unseen))]
        return count + len(unseen)

    def observe(self, applied: Sequence[Changes]) -> None:
        """Notes the orders that records have started."""
        for changes in applied:
            for order in changes.orders.values():
                if order.created_at != changes.stamp.time:
                    continue
                if unseen := self._unseen.get(order.element or ""):
                    unseen.pop(order.id, None)
                if runs_directly(order):
                    self._young.append((self._loop.time() + self._after(), order.id))
                    self._wake.set()

    def observe_everything(self) -> None:
        """Notes every order that runs by a direct start: an earlier leader may have failed to publish its message."""
        self._young.extendleft((0.0, ident) for ident, order in self._state.orders.items() if runs_directly(order))
        self._wake.set()

    def _after(self) -> float:
        """Seconds after which an order that still runs gets its message."""
        return self._lease.shorter.total_seconds() * MESSAGE_AFTER

    async def run(self) -> None:
        """Publishes messages until cancelled."""
        self.ready.set()
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._young:
                await asyncio.sleep(self._young[0][0] - self._loop.time())
                await self._publish()

    async def _publish(self) -> None:
        """Publishes the messages that are due."""
        now = self._loop.time()
        due: list[Order] = []
        while self._young and self._young[0][0] <= now and len(due) < BURST:
            order = self._state.orders.get(self._young.popleft()[1])
            if order is not None and runs_directly(order):
                due.append(order)
        results = await asyncio.gather(
            *(self._publisher.publish(*_lease_message(order)) for order in due), return_exceptions=True
        )
        for order, result in zip(due, results, strict=True):
            if isinstance(result, UnavailableError):
                note("order.no_lease_message", result, order=order.id)
                self._young.append((now + self._after(), order.id))
            elif isinstance(result, BaseException):
                raise result


def _lease_message(order: Order) -> tuple[str, bytes, dict[str, str]]:
    message = replace(packet(order), attempt=order.attempt, start=Direct(agent=order.agent or ""))
    return *addressed(order, message), {MSG_ID: names.lease_message_id(order.id)}


def _only_order(record: Created | Fired, state: World) -> tuple[str, str] | None:
    """The only order that a record makes, and its element, if nothing but the element can be in its way.

    Of firings, only those of a schedule: the agent gets the whole record, and of somebody else's event it must see
    only what the inputs hold.
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
