"""On an idle mesh an order begins with its first record: no offer, no claim.

The record names the agent that runs the order from now on.  It is written only as the very next one on the
log (compare-and-set on the log's last sequence), so the state machine decides what was foreseen here; and the
server itself passes it on to the agent, once it is stored.  Two legs of the network and two stored messages
less than an offer and its claim.

An order that lasts gets a message in the work stream after all: it carries the lease that the agent renews,
and finds an agent that the record did not reach.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from msgspec.structs import replace

from muster.broker.log import Log
from muster.broker.offer import addressed, packet
from muster.broker.presence import Presences
from muster.broker.state.changes import Changes
from muster.broker.state.foresight import begun_next
from muster.broker.state.machine import State
from muster.broker.state.order import was_begun
from muster.mesh.errors import UnavailableError
from muster.mesh.jetstream import MSG_ID, LostRaceError, Publisher
from muster.mesh.records import Created
from muster.mesh.service import Service

log = structlog.get_logger()

LENT: Final = 1 / 20
"""The part of a lease after which an order that still runs gets its message."""


class Beginnings(Service):
    """Lets orders begin at once, and lends those that last their message."""

    def __init__(
        self, publisher: Publisher, state: State, appender: Log, presences: Presences, lease: timedelta
    ) -> None:
        super().__init__()
        self._publisher = publisher
        self._state = state
        self._log = appender
        self._presences = presences
        self._after = lease.total_seconds() * LENT
        self._young: dict[str, float] = {}
        """Orders without a message, and when each is to have one (loop time)."""
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def begun(self, record: Created) -> Created | None:
        """The record that begins its order at once, if nothing else goes on and its agent speaks; else None."""
        if record.element is None or self._log.has_appenders or not self._log.rests:
            return None
        now = datetime.now(UTC)
        foreseen = begun_next(self._state, record, now)
        if foreseen is None or foreseen.agent is None or self._presences.serves(record.element, now) != foreseen.agent:
            return None
        beat = self._presences.beat(record.element, foreseen.agent)
        return replace(foreseen, beat=beat) if beat else None

    def look(self, applied: Sequence[Changes]) -> None:
        """Take note of orders that some records began."""
        for changes in applied:
            for order in changes.orders.values():
                if order.created_at == changes.stamp.time and was_begun(order):
                    self._young[order.id] = self._loop.time() + self._after
                    self._wake.set()

    def look_everywhere(self) -> None:
        """Take nothing for done."""
        self._young.update({ident: 0.0 for ident, order in self._state.orders.items() if was_begun(order)})
        self._wake.set()

    async def run(self) -> None:
        """Lend messages until cancelled."""
        self.ready.set()
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._young:
                await asyncio.sleep(self._after / 4)
                await self._lend()

    async def _lend(self) -> None:
        now = self._loop.time()
        for ident in [ident for ident, due in self._young.items() if due <= now]:
            order = self._state.orders.get(ident)
            if order is not None and was_begun(order):
                message = replace(packet(order), attempt=order.attempt, rev=0)
                try:
                    await self._publisher.publish(*addressed(order, message), {MSG_ID: f"{ident}.lent"})
                except (UnavailableError, LostRaceError) as error:
                    log.warning("order.unlent", order=ident, error=str(error))
                    continue
            del self._young[ident]
