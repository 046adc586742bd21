"""The leader publishes what the state has released, and notifies agents of orders that must stop.

Everything here is derived from state.  `Changes` only say where to look; after a crash, an election
or a reconnect, it looks everywhere.  A copy published twice does no harm: the message id drops it
for two minutes, and the claim's compare-and-set for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec
import structlog
from nats.aio.client import Client

from muster.broker.log import HEADERS, Log
from muster.broker.state.changes import Changes
from muster.broker.state.order import is_held
from muster.broker.state.world import World
from muster.broker.storage import note
from muster.mesh import names, records
from muster.mesh.caller import Caller, CallerKind
from muster.mesh.errors import UnavailableError
from muster.mesh.jetstream import MSG_ID, LostRaceError, PubAck, Publisher, post
from muster.mesh.model import FINAL_STATES, Control, Offered, Order, OrderState, Packet
from muster.mesh.service import Service

log = structlog.get_logger()

BURST: Final = 500
"""Offers published in one turn of the loop."""

APPEND_TIMEOUT: Final = 5.0
"""Seconds until an offer that was not acknowledged is made again."""

_encode = msgspec.json.Encoder().encode


def packet(order: Order) -> Packet:
    """What an agent needs to run an order."""
    return Packet(
        order=order.id,
        attempt=order.attempt + 1,
        start=Offered(rev=order.rev),
        blueprint=order.blueprint,
        digest=order.digest,
        inputs=order.inputs,
        sources=order.sources,
        element=order.runner,
        pool=order.pool,
        jobs=order.jobs,
        children=order.children,
        labels=order.labels,
        depth=order.depth,
        ending=order.clean_up,
    )


class Offers(Service):
    """Puts released orders into the work stream, and cares for those that are held."""

    def __init__(self, client: Client, publisher: Publisher, state: World, appender: Log) -> None:
        super().__init__()
        self._client = client
        self._publisher = publisher
        self._state = state
        self._log = appender
        self._wake = asyncio.Event()
        self._again: dict[str, None] = {}
        self._held: dict[str, None] = {}
        self._cancelling: dict[str, None] = {}
        self._unrecorded: dict[str, records.OrderRecord] = {}
        """What is to be put on the log, by order."""

    def look(self, applied: Sequence[Changes]) -> None:
        """Publish what some records released, at once; note what needs more than that."""
        released: dict[str, None] = {}
        for changes in applied:
            for order in changes.orders.values():
                if order.state is OrderState.OFFERED:
                    released[order.id] = None
                elif order.state is OrderState.CANCELLING:
                    self._held[order.id] = None
            if changes.revoked or changes.unclaimed:
                self._revoke(changes)
            for name in changes.ids("element"):
                self._held.update(dict.fromkeys(self._state.held.by(name)))
        if released:
            self._publish(released)
        if self._held or self._unrecorded:
            self._wake.set()

    def _revoke(self, changes: Changes) -> None:
        """Handles orders that have ended with copies: these must not be claimed, and its agent must stop."""
        for ident, by in changes.revoked.items():
            self._unrecorded[ident] = records.CancelRequested(order=ident, by=by)
        for ident, element in changes.unclaimed:
            self._notify_stop(ident, element)

    def look_everywhere(self) -> None:
        """Take nothing for done."""
        for ident, order in self._state.orders.items():
            (self._again if order.state is OrderState.OFFERED else self._held)[ident] = None
        self._wake.set()

    async def run(self) -> None:
        """Work off what `look` left, and what was not acknowledged, until cancelled."""
        self.ready.set()
        while True:
            try:
                async with asyncio.timeout(APPEND_TIMEOUT):
                    await self._wake.wait()
            except TimeoutError:
                self._held.update(self._cancelling)  # an agent may have missed that it should stop
            self._wake.clear()
            await self._publish_again()
            await self._record()
            held, self._held = self._held, {}
            for ident in held:
                await self._tried(ident)

    def _publish(self, idents: Iterable[str]) -> None:
        self._post(
            [
                order
                for ident in idents
                if (order := self._state.orders.get(ident)) is not None and order.state is OrderState.OFFERED
            ]
        )

    def _post(self, offered: Sequence[Order]) -> None:
        """All in one go; the acknowledgement of the last one speaks for all."""
        messages = self._sendable(offered)
        if not messages:
            return
        try:
            for subject, data, headers in messages[:-1]:
                post(self._client, subject, data, headers=headers)
            ack = self._publisher.send(*messages[-1], within=APPEND_TIMEOUT)
        except UnavailableError as error:
            self._failed(offered, error)
            return
        ack.add_done_callback(lambda done: self._acknowledged(offered, done))

    def _sendable(self, offered: Sequence[Order]) -> list[tuple[str, bytes, dict[str, str]]]:
        """Their messages; an order whose message no server takes is given up, so that it is in nobody's way."""
        most = self._client.max_payload - HEADERS
        messages = []
        for order in offered:
            subject, data = _offer(order)
            if len(data) <= most:
                messages.append((subject, data, _once(order)))
            else:
                size = f"{len(data)} bytes, more than a message may have"
                reason = f"its inputs, its tasks' outputs and its child orders' are {size}"
                self._unrecorded[order.id] = records.GivenUp(order=order.id, reason=reason)
                self._wake.set()
        return messages

    def _acknowledged(self, offered: Sequence[Order], done: asyncio.Future[PubAck]) -> None:
        if not done.cancelled() and (error := done.exception()) is not None:
            self._failed(offered, error)

    def _failed(self, offered: Sequence[Order], error: BaseException) -> None:
        note("offer.failed", error, orders=len(offered))
        self._again.update(dict.fromkeys(order.id for order in offered))

    async def _publish_again(self) -> None:
        """In bursts, so that a new leader with a long queue does not hold up the loop."""
        again, self._again = list(self._again), {}
        for start in range(0, len(again), BURST):
            self._publish(again[start : start + BURST])
            await asyncio.sleep(0)

    async def _record(self) -> None:
        """Appends the pending records.

        `apply` refuses a cancel of an ended order; but it changes the sequence that a claim is compared with.
        """
        for ident in list(self._unrecorded):
            record = self._unrecorded.pop(ident)
            try:
                await self._append(record)
            except UnavailableError as error:
                self._unrecorded.setdefault(ident, record)
                note("order.unrecorded", error, order=ident, record=type(record).__name__)
                return

    async def _tried(self, ident: str) -> None:
        order = self._state.orders.get(ident)
        if order is None or order.state is not OrderState.CANCELLING:
            self._cancelling.pop(ident, None)
            return
        self._cancelling[ident] = None
        try:
            await self._mind(order)
        except UnavailableError as error:
            note("order.unminded", error, order=ident)
            self._held[ident] = None

    async def _mind(self, order: Order) -> None:
        """Notifies the agent of an order that must stop, and cancels its children."""
        for child, known in order.children.items():
            if known.state not in FINAL_STATES and known.state is not OrderState.CANCELLING:
                await self._append(
                    records.CancelRequested(order=child, by=Caller(kind=CallerKind.ORDER, name=order.id))
                )
        if is_held(order) and order.runner is not None:
            self._notify_stop(order.id, order.runner)

    def _notify_stop(self, order: str, element: str) -> None:
        with suppress(UnavailableError):  # repeated while it is held, or when its message is redelivered
            post(self._client, names.control(element), _encode(Control(cancel=order)))

    async def _append(self, record: Any) -> None:
        """Two leaders may both write it: the state machine refuses the second one."""
        try:
            await self._log.append(record)
        except LostRaceError:
            return


def addressed(order: Order, content: Packet) -> tuple[str, bytes]:
    """Where an order's message goes, and its bytes."""
    subject = names.work_pool(order.pool or "") if order.runner is None else names.work_element(order.runner)
    return subject, _encode(content)


def _offer(order: Order) -> tuple[str, bytes]:
    return addressed(order, packet(order))


def _once(order: Order) -> dict[str, str]:
    return {MSG_ID: f"{order.id}.{order.rev}"}
