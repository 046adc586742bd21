"""The leader publishes what the state has released, and tells agents what to stop.

Everything here is derived from state.  `Changes` only say where to look; after a crash, an election
or a reconnect, it looks everywhere.  A copy published twice does no harm: the message id drops it
for two minutes, and the claim's compare-and-set for ever.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec
import nats.errors
import structlog
from nats.aio.client import Client

from muster.broker.log import Log
from muster.broker.state.changes import Changes
from muster.broker.state.machine import State
from muster.broker.state.order import is_held
from muster.mesh import names, records
from muster.mesh.errors import UnavailableError
from muster.mesh.jetstream import MSG_ID, LostRaceError, PubAck, Publisher
from muster.mesh.model import FINAL_STATES, Control, Order, OrderState, Packet
from muster.mesh.service import Service

log = structlog.get_logger()

WINDOW: Final = 1000
"""Offers sent and not yet acknowledged."""

PATIENCE: Final = 5.0
"""Seconds until an offer that was not acknowledged is made again."""

_encode = msgspec.json.Encoder().encode


def packet(order: Order) -> Packet:
    """What an agent needs to run an order."""
    return Packet(
        order=order.id,
        attempt=order.attempt + 1,
        rev=order.rev,
        blueprint=order.blueprint,
        digest=order.digest,
        inputs=order.inputs,
        sources=order.sources,
        element=order.element,
        pool=order.pool,
        jobs=order.jobs,
        children=order.children,
        labels=order.labels,
        depth=order.depth,
    )


class Offers(Service):
    """Puts released orders into the work stream, and cares for those that are held."""

    def __init__(self, client: Client, publisher: Publisher, state: State, appender: Log) -> None:
        super().__init__()
        self._client = client
        self._publisher = publisher
        self._state = state
        self._log = appender
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._todo: dict[str, None] = {}
        self._sent: dict[str, float] = {}

    def look(self, changes: Changes) -> None:
        """Take note of what one record changed."""
        for order in changes.orders.values():
            if order.state in _CALLS_FOR_US:
                self._todo[order.id] = None
        for name in changes.elements:
            self._todo.update(dict.fromkeys(self._state.shelves.held(name)))
        if self._todo:
            self._wake.set()

    def look_everywhere(self) -> None:
        """Take nothing for done."""
        self._sent.clear()
        self._todo.update(dict.fromkeys(self._state.orders))
        self._wake.set()

    async def run(self) -> None:
        """Work the list off until cancelled."""
        self.ready.set()
        while True:
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._wake.wait()
            except TimeoutError:
                self._offer_again()
            self._wake.clear()
            chosen, self._todo = self._todo, {}
            for ident in chosen:
                if (order := self._state.orders.get(ident)) is not None:
                    await self._care(order)

    async def _care(self, order: Order) -> None:
        try:
            if order.state is OrderState.OFFERED:
                await self._offer(order)
            elif is_held(order) or order.state is OrderState.CANCELLING:
                await self._mind(order)
        except (UnavailableError, nats.errors.Error) as error:
            log.warning("offer.failed", order=order.id, error=str(error))
            self._sent[order.id] = 0.0

    async def _offer(self, order: Order) -> None:
        while len(self._sent) >= WINDOW:
            self._room.clear()
            await self._room.wait()
        subject = names.work_pool(order.pool or "") if order.element is None else names.work_element(order.element)
        self._sent[order.id] = asyncio.get_running_loop().time()
        ack = self._publisher.send(subject, _encode(packet(order)), {MSG_ID: f"{order.id}.{order.rev}"})
        ack.add_done_callback(lambda told: self._acknowledged(order.id, told))

    def _acknowledged(self, ident: str, told: asyncio.Future[PubAck]) -> None:
        if told.cancelled() or (error := told.exception()) is not None:
            log.warning("offer.failed", order=ident, error="cancelled" if told.cancelled() else str(error))
        else:
            self._sent.pop(ident, None)
            self._room.set()

    def _offer_again(self) -> None:
        late = asyncio.get_running_loop().time() - PATIENCE
        for ident in [ident for ident, sent in self._sent.items() if sent <= late]:
            del self._sent[ident]
            self._todo[ident] = None

    async def _mind(self, order: Order) -> None:
        """A held order: its agent may be gone, or must be told to stop; so must its children."""
        if order.state is OrderState.CANCELLING:
            for child, known in order.children.items():
                if known.state not in FINAL_STATES and known.state is not OrderState.CANCELLING:
                    await self._append(records.CancelRequested(order=child, by=f"order {order.id}"))
        if not is_held(order) or order.element is None:
            return
        element = self._state.fleet.elements.get(order.element)
        if element is not None and element.agent not in {None, order.agent}:
            reason = f"the agent on {order.element} was started anew"
            await self._append(records.Lost(order=order.id, attempt=order.attempt, reason=reason))
        elif order.state is OrderState.CANCELLING:
            await self._client.publish(names.control(order.element), _encode(Control(cancel=order.id)))

    async def _append(self, record: Any) -> None:
        """Two leaders may both write it: the state machine refuses the second one."""
        try:
            await self._log.append(record)
        except LostRaceError:
            return


_CALLS_FOR_US: Final = frozenset({OrderState.OFFERED, OrderState.CANCELLING})
