"""Which elements this daemon acts for: it joins for them, publishes heartbeats, and learns what they may do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import msgspec
import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.errors import APIError

from muster.agent.clock import Clock
from muster.agent.fetch import Fetch
from muster.agent.lease import now
from muster.agent.orders import Orders
from muster.agent.slots import Slots
from muster.agent.start import direct
from muster.agent.workshop import Workshop
from muster.mesh import names
from muster.mesh.errors import MusterError, RefusedError, UnavailableError, UnreachableError, VersionError, from_problem
from muster.mesh.messages import ASSIGNMENT_POLL, Assignment, Control, JoinRequest, Presence, Welcome
from muster.mesh.service import Service
from muster.mesh.version import OURS, broker_misfit
from muster.mesh.wire import post, subscribe, unsubscribe

log = structlog.get_logger()

JOIN_RETRY_DELAY: Final = 0.5
"""Seconds between two tries to reach a broker."""

JOIN_TIMEOUT: Final = 5.0
"""Seconds to wait for the answer to one of them."""

HEARTBEAT_SHARE: Final = 1 / 8
"""The part of a lease between two heartbeats: after half of one in silence the element is offline."""

JOIN_INTERVAL: Final = 600.0
"""Seconds after which the agent joins once more: the answer says what time it is, and clocks drift."""

SETTLE_DELAY: Final = 1.0
"""Seconds after which an assignment that was published is read from the bucket, which alone is right."""


async def join(
    client: Client, request: JoinRequest, clock: Clock, meanwhile: Callable[[], None] | None = None
) -> Assignment:
    """Joins for an element, as soon as a broker answers that fits; `meanwhile` is called while none does.

    Raises:
        MusterError: the broker refuses.
    """
    body = msgspec.json.encode(request)
    logged: str | None = None
    while True:
        asked_at = now()
        try:
            reply = await client.request(names.agent(request.element, "join"), body, timeout=JOIN_TIMEOUT)
            welcome = welcomed(reply.data, request.element)
            clock.set(welcome.time, asked_at)
            return welcome.assignment
        except (nats.errors.Error, TimeoutError, UnreachableError, VersionError, OSError) as error:
            why = error.detail if isinstance(error, MusterError) else await broker_misfit(client, "agent")
            if why != logged:
                log.warning("join.waits", element=request.element, why=why or "no broker answers")
                logged = why
            if meanwhile is not None:
                meanwhile()
            await asyncio.sleep(JOIN_RETRY_DELAY)


def welcomed(data: bytes, element: str) -> Welcome:
    """What a broker answered to a join.

    Raises:
        MusterError: it was an error, or cannot be read.
    """
    try:
        answer = msgspec.json.decode(data)
        if isinstance(answer, dict) and isinstance(answer.get("error"), dict):
            raise from_problem(answer["error"])
        given = msgspec.convert(answer, Welcome)
    except msgspec.MsgspecError as error:
        raise RefusedError(f"the broker gave an answer that is not an assignment: {error}") from error
    if given.assignment.element != element:
        raise RefusedError(f"the broker answered for the element {given.assignment.element!r}, not for {element!r}")
    return given


class Host(Service):
    """Acts for one element while it runs."""

    def __init__(self, shop: Workshop, orders: Orders, element: str) -> None:
        super().__init__()
        self.element = element
        self._shop = shop
        self._orders = orders
        self._slots = Slots(Assignment(element=element, kind="", takes_work=False, slots=0))
        self._fetch = Fetch(shop, self._slots, orders)
        self._changed = asyncio.Event()
        self._must_join = False

    async def run(self) -> None:
        """Joins, and serves the element until cancelled."""
        client = self._shop.client
        subscriptions = [
            await subscribe(client, names.control(self.element), self._control_arrived),
            await subscribe(client, names.direct_start(self.element), self._record_arrived),
            await subscribe(client, names.entry(names.ASSIGNMENT_BUCKET, self.element), self._assignment_arrived),
        ]
        given = await join(client, self._request(), self._shop.clock)
        try:
            self._fetch.assign(given)
            async with self._fetch:
                self.ready.set()
                await self._follow()
        finally:
            self._publish_presence(leaving=True)
            for subscription in subscriptions:
                await unsubscribe(subscription)

    def _request(self) -> JoinRequest:
        return JoinRequest(
            element=self.element,
            agent=self._shop.agent,
            place=self._shop.place,
            protocol=OURS.protocol,
            version=OURS.version,
        )

    def reconnected(self) -> None:
        """NATS was unreachable: what was published meanwhile must be asked for."""
        self._must_join = True
        self._changed.set()
        self._fetch.renew()

    def close(self) -> None:
        """Takes no new work."""
        self._fetch.close()

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        read_at, join_at = loop.time() + ASSIGNMENT_POLL, loop.time() + JOIN_INTERVAL
        while True:
            self._publish_presence()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._heartbeat_interval()):
                    await self._changed.wait()
                    read_at = min(read_at, loop.time() + SETTLE_DELAY)
                    self._changed.clear()
            if self._must_join or loop.time() >= join_at:
                self._must_join = False
                join_at = loop.time() + JOIN_INTERVAL
                given = await join(self._shop.client, self._request(), self._shop.clock, self._publish_presence)
                self._fetch.assign(given)
            if loop.time() >= read_at:
                read_at = loop.time() + ASSIGNMENT_POLL
                await self._read_assignment()

    def _heartbeat_interval(self) -> float:
        """Seconds until the next heartbeat; few as long as the lease is not known."""
        most = self._shop.settings.heartbeat.total_seconds()
        return min(most, self._fetch.lease * HEARTBEAT_SHARE or JOIN_RETRY_DELAY)

    async def _read_assignment(self) -> None:
        try:
            bucket = await self._shop.client.jetstream(timeout=5).key_value(names.ASSIGNMENT_BUCKET)
            entry = await bucket.get(names.key(self.element))
            given = msgspec.json.decode(entry.value or b"", type=Assignment)
            if given.element != self.element:  # written by a process that must not
                log.warning("assignment.of_another", element=self.element, its=given.element)
                return
            self._fetch.assign(given)
        except (nats.errors.Error, APIError, TimeoutError, OSError, msgspec.MsgspecError) as error:
            log.debug("assignment.unread", element=self.element, error=repr(error))

    def _assignment_arrived(self, message: Msg) -> None:
        """The bucket's own subject: the new value as it is written."""
        with suppress(msgspec.MsgspecError):
            given = msgspec.json.decode(message.data, type=Assignment)
            if given.element == self.element:
                self._fetch.assign(given)
        self._changed.set()

    def _record_arrived(self, message: Msg) -> None:
        """The server itself passes on what it has stored: the first record of an order that this agent runs."""
        try:
            started = direct(message)
        except msgspec.MsgspecError as error:
            log.warning("record.unreadable", element=self.element, error=str(error))
            return
        if started.start.agent == self._shop.agent and started.packet.element == self.element:
            self._fetch.started(message, started)

    def _control_arrived(self, message: Msg) -> None:
        try:
            control = msgspec.json.decode(message.data, type=Control)
        except msgspec.MsgspecError as error:
            log.warning("control.unreadable", element=self.element, error=str(error))
            return
        self._orders.cancel(control.cancel)

    def _publish_presence(self, *, leaving: bool = False) -> None:
        presence = Presence(
            agent=self._shop.agent,
            leaving=leaving,
            at=now(),
            time=self._shop.clock.wall(),
            protocol=OURS.protocol,
            version=OURS.version,
            is_unconfined=self._shop.is_unconfined,
        )
        with suppress(UnavailableError):
            post(self._shop.client, names.presence(self.element), msgspec.json.encode(presence))
