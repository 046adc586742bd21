"""The leader publishes the orders that are offered, and notifies agents of those that must stop.

Everything here is derived from the world.  `Changes` only narrow what to observe; after a crash, an election or a
reconnect, everything is.  A copy that is published twice does no harm: the message id drops it for two minutes, and
the claim's compare-and-set for ever.
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
from muster.mesh.messages import Control, Packet
from muster.mesh.model import FINAL_STATES, Offered, Order, OrderState
from muster.mesh.service import Service

log = structlog.get_logger()

BURST: Final = 500
"""Offers published in one turn of the loop."""

ACK_TIMEOUT: Final = 5.0
"""Seconds after which an offer that was not acknowledged is published again."""

_encode = msgspec.json.Encoder().encode


def packet(order: Order) -> Packet:
    """Returns what an agent needs to run an order."""
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
    """Publishes offered orders on the work stream, and stops those that are cancelled."""

    def __init__(self, client: Client, publisher: Publisher, state: World, appender: Log) -> None:
        super().__init__()
        self._client = client
        self._publisher = publisher
        self._state = state
        self._log = appender
        self._wake = asyncio.Event()
        self._unacknowledged: dict[str, None] = {}
        """Orders whose offer is published again."""
        self._suspects: dict[str, None] = {}
        """Orders that are perhaps to be stopped."""
        self._cancelling: dict[str, None] = {}
        self._pending: dict[str, records.OrderRecord] = {}
        """Records to append, by order."""

    def observe(self, applied: Sequence[Changes]) -> None:
        """Publishes what records have offered, at once; notes what needs more than that."""
        released: dict[str, None] = {}
        for changes in applied:
            for order in changes.orders.values():
                if order.state is OrderState.OFFERED:
                    released[order.id] = None
                elif order.state is OrderState.CANCELLING:
                    self._suspects[order.id] = None
            if changes.revoked or changes.unclaimed:
                self._revoke(changes)
            for name in changes.ids("element"):
                self._suspects.update(dict.fromkeys(self._state.held.by(name)))
        if released:
            self._publish(released)
        if self._suspects or self._pending:
            self._wake.set()

    def _revoke(self, changes: Changes) -> None:
        """Orders have ended of which there are copies: nobody may claim these, and who has claimed one must stop."""
        for ident, by in changes.revoked.items():
            self._pending[ident] = records.CancelRequested(order=ident, by=by)
        for ident, element in changes.unclaimed:
            self._notify_stop(ident, element)

    def observe_everything(self) -> None:
        """Notes every open order: an earlier leader may have failed to publish or stop it."""
        for ident, order in self._state.orders.items():
            (self._unacknowledged if order.state is OrderState.OFFERED else self._suspects)[ident] = None
        self._wake.set()

    async def run(self) -> None:
        """Does what `observe` noted, and publishes again what was not acknowledged, until cancelled."""
        self.ready.set()
        while True:
            try:
                async with asyncio.timeout(ACK_TIMEOUT):
                    await self._wake.wait()
            except TimeoutError:
                self._suspects.update(self._cancelling)  # an agent may have missed its notification
            self._wake.clear()
            await self._publish_unacknowledged()
            await self._append_pending()
            suspects, self._suspects = self._suspects, {}
            for ident in suspects:
                await self._check(ident)

    def _publish(self, idents: Iterable[str]) -> None:
        self._post(
            [
                order
                for ident in idents
                if (order := self._state.orders.get(ident)) is not None and order.state is OrderState.OFFERED
            ]
        )

    def _post(self, offered: Sequence[Order]) -> None:
        """Sends all at once; one acknowledgement, of the last one, covers all."""
        messages = self._sendable(offered)
        if not messages:
            return
        try:
            for subject, data, headers in messages[:-1]:
                post(self._client, subject, data, headers=headers)
            ack = self._publisher.send(*messages[-1], within=ACK_TIMEOUT)
        except UnavailableError as error:
            self._failed(offered, error)
            return
        ack.add_done_callback(lambda outcome: self._acknowledged(offered, outcome))

    def _sendable(self, offered: Sequence[Order]) -> list[tuple[str, bytes, dict[str, str]]]:
        """Returns their messages; an order whose message no server accepts is given up, so that it blocks nobody."""
        most = self._client.max_payload - HEADERS
        messages = []
        for order in offered:
            subject, data = _offer(order)
            if len(data) <= most:
                messages.append((subject, data, _once(order)))
            else:
                size = f"{len(data)} bytes, more than a message may have"
                reason = f"its inputs, its tasks' outputs and its child orders' are {size}"
                self._pending[order.id] = records.GivenUp(order=order.id, reason=reason)
                self._wake.set()
        return messages

    def _acknowledged(self, offered: Sequence[Order], outcome: asyncio.Future[PubAck]) -> None:
        if not outcome.cancelled() and (error := outcome.exception()) is not None:
            self._failed(offered, error)

    def _failed(self, offered: Sequence[Order], error: BaseException) -> None:
        note("offer.failed", error, orders=len(offered))
        self._unacknowledged.update(dict.fromkeys(order.id for order in offered))

    async def _publish_unacknowledged(self) -> None:
        """Publishes in bursts, so that a new leader with a long queue does not block the loop."""
        todo, self._unacknowledged = list(self._unacknowledged), {}
        for start in range(0, len(todo), BURST):
            self._publish(todo[start : start + BURST])
            await asyncio.sleep(0)

    async def _append_pending(self) -> None:
        """Appends the pending records.

        A cancel is refused, because its order has ended already; but it moves what a claim is compared with.
        """
        for ident in list(self._pending):
            record = self._pending.pop(ident)
            try:
                await self._append(record)
            except UnavailableError as error:
                self._pending.setdefault(ident, record)
                note("order.unrecorded", error, order=ident, record=type(record).__name__)
                return

    async def _check(self, ident: str) -> None:
        order = self._state.orders.get(ident)
        if order is None or order.state is not OrderState.CANCELLING:
            self._cancelling.pop(ident, None)
            return
        self._cancelling[ident] = None
        try:
            await self._stop_order(order)
        except UnavailableError as error:
            note("order.unstopped", error, order=ident)
            self._suspects[ident] = None

    async def _stop_order(self, order: Order) -> None:
        """Notifies the agent of an order that must stop, and cancels its children."""
        for child, known in order.children.items():
            if known.state not in FINAL_STATES and known.state is not OrderState.CANCELLING:
                await self._append(
                    records.CancelRequested(order=child, by=Caller(kind=CallerKind.ORDER, name=order.id))
                )
        if is_held(order) and order.runner is not None:
            self._notify_stop(order.id, order.runner)

    def _notify_stop(self, order: str, element: str) -> None:
        with suppress(UnavailableError):  # it is notified again while it is held
            post(self._client, names.control(element), _encode(Control(cancel=order)))

    async def _append(self, record: Any) -> None:
        """Appends a record; two leaders may both do so: the state machine refuses the second one."""
        try:
            await self._log.append(record)
        except LostRaceError:
            return


def addressed(order: Order, content: Packet) -> tuple[str, bytes]:
    """Returns where an order's message is published, and its bytes."""
    subject = names.work_pool(order.pool or "") if order.runner is None else names.work_element(order.runner)
    return subject, _encode(content)


def _offer(order: Order) -> tuple[str, bytes]:
    return addressed(order, packet(order))


def _once(order: Order) -> dict[str, str]:
    return {MSG_ID: f"{order.id}.{order.rev}"}
