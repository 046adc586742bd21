"""Every order that is on this agent: what happens to each is decided by the table of `Hold`, and done here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Final, Self

import structlog
from msgspec.structs import replace

from muster.agent import execute
from muster.agent.attempt import Attempt, Why
from muster.agent.execute import BUG, Exit
from muster.agent.hold import TABLE, Action, Arrival, Hold, Message, State
from muster.agent.lease import Delivery
from muster.agent.resume import GivenUp
from muster.agent.slots import Slots
from muster.agent.start import is_direct, lease_message
from muster.agent.workshop import Workshop
from muster.mesh.errors import UnavailableError
from muster.mesh.jetstream import sequence
from muster.mesh.messages import Packet
from muster.mesh.model import CleanUp, OrderState
from muster.mesh.wire import post

log = structlog.get_logger()

BUSY_DELAY: Final = 0.2
"""Seconds until a message is delivered again whose order is still leaving this agent."""

MOST_REMEMBERED: Final = 1000
"""Orders that are kept in mind although they are not here: given up, failed on, or cancelled before they came."""


class Orders:
    """What this agent holds, by order."""

    def __init__(self, shop: Workshop, given_up: GivenUp) -> None:
        self.holds: dict[str, Hold] = {}
        self._remembered: dict[str, Hold] = {}
        """Orders that are not here, the oldest first."""
        self._shop = shop
        self._given_up = given_up
        self._tasks: set[asyncio.Task[None]] = set()
        self.none_left = asyncio.Event()
        """Set while nothing runs."""
        self.none_left.set()
        self._actions: dict[Action, Callable[[Hold], None]] = {
            Action.NOTHING: lambda _: None,
            Action.RETURN: self._return,
            Action.MARK_CANCELLED: _mark_cancelled,
            Action.START: self._start,
            Action.CANCEL: partial(Hold.interrupt, why=Why.CANCELLED),
            Action.LOSE: partial(Hold.interrupt, why=Why.LOST),
            Action.STOP: partial(Hold.interrupt, why=Why.STOPPED),
            Action.DECLINE: self._decline,
            Action.FORGET: self._forget,
        }
        self._arrival_actions: dict[Action, Callable[[Hold, Arrival], None]] = {
            Action.NOTHING: lambda _, __: None,
            Action.KEEP: self._keep,
            Action.KEEP_CANCELLED: self._keep_cancelled,
            Action.REPLACE: self._replace,
            Action.RENEW: self._renew,
            Action.ACKNOWLEDGE: lambda _, arrival: arrival.delivery.acknowledge(),
            Action.SEND_BACK: lambda _, arrival: arrival.delivery.give_back(BUSY_DELAY),
            Action.SUPERSEDE: _supersede,
            Action.GIVE_UP: self._give_up,
            Action.DECLINE: self._decline_arrival,
        }

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end()

    async def end(self) -> None:
        """Leaves every order at once, and waits until its tasks are gone."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def knows(self, packet: Packet) -> bool:
        """Whether an order is here, so that a message of it needs no slot."""
        return packet.order in self.holds or is_direct(packet)

    def arrived(self, arrival: Arrival) -> None:
        """A message of the work stream has come."""
        hold = self._find(arrival.packet.order)
        self._arrived(hold, hold.kind_of(arrival.packet), arrival)
        self.fill(arrival.slots)

    def started(self, arrival: Arrival, *, is_late: bool) -> None:
        """The first record of a direct start has come."""
        message = Message.LATE_RECORD if is_late else Message.RECORD
        self._arrived(self._find(arrival.packet.order), message, arrival)
        self.fill(arrival.slots)

    def cancel(self, order: str) -> None:
        """An order is to be cancelled."""
        self._hear(self._find(order), Message.CANCEL)

    def fill(self, slots: Slots) -> None:
        """Starts what waits for a slot, as far as there are any."""
        while (hold := slots.next()) is not None:
            self._hear(hold, Message.SLOT)

    def drain(self, slots: Slots) -> None:
        """An element takes no new work."""
        self._hear_all((*slots.fetched.values(), *slots.waiting.values()), Message.DRAIN)

    def close(self, slots: Slots) -> None:
        """This agent is about to stop: nothing starts on the element any more."""
        self._shop.closing.set()
        self._hear_all((*slots.fetched.values(), *slots.waiting.values()), Message.CLOSE)

    def stop(self) -> None:
        """This agent stops: leave everything to another attempt."""
        self._hear_all(tuple(self.holds.values()), Message.STOP)

    # -- what the table says ----------------------------------------------------------------------

    def _find(self, order: str) -> Hold:
        return self.holds.get(order) or self._remembered.get(order) or Hold(order)

    def _hear_all(self, holds: tuple[Hold, ...], message: Message) -> None:
        for hold in holds:
            self._hear(hold, message)

    def _hear(self, hold: Hold, message: Message) -> None:
        step = TABLE[hold.state][message]
        hold.state = step.to
        self._actions[step.action](hold)
        self._place(hold)

    def _arrived(self, hold: Hold, message: Message, arrival: Arrival) -> None:
        step = TABLE[hold.state][message]
        hold.state = step.to
        self._arrival_actions[step.action](hold, arrival)
        self._place(hold)

    def _place(self, hold: Hold) -> None:
        """Keeps an order that is here, and of others only what may matter later."""
        if hold.is_held:
            self.holds[hold.order] = hold
            self._remembered.pop(hold.order, None)
            return
        self.holds.pop(hold.order, None)
        if hold.state is State.ABSENT and not hold.bugs:
            self._remembered.pop(hold.order, None)
            return
        self._remembered[hold.order] = hold
        if len(self._remembered) > MOST_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]

    # -- actions on what arrives ------------------------------------------------------------------

    def _keep(self, hold: Hold, arrival: Arrival) -> None:
        hold.slots, _, hold.packet = arrival
        queue = hold.slots.waiting if hold.state is State.WAITING else hold.slots.fetched
        queue[hold.order] = hold
        self._carry(hold, arrival.delivery)

    def _keep_cancelled(self, hold: Hold, arrival: Arrival) -> None:
        self._keep(hold, arrival)
        _mark_cancelled(hold)

    def _replace(self, hold: Hold, arrival: Arrival) -> None:
        self._forget(hold, is_acknowledged=True)
        self._keep(hold, arrival)

    def _renew(self, hold: Hold, arrival: Arrival) -> None:
        held, came = hold.delivery, arrival.delivery
        self._put_down(hold)
        if not held.is_direct and sequence(held.message) != sequence(came.message):  # two messages say the same
            held.acknowledge()
        self._carry(hold, came)

    def _carry(self, hold: Hold, delivery: Delivery) -> None:
        """Renews the lease of this message from now on."""
        hold.delivery = delivery
        delivery.on_lost = partial(self._hear, hold, Message.LEASE_LOST)
        if delivery.is_direct:
            delivery.ask_for_message = partial(self._publish_message, hold.packet, hold.slots.element)
        self._shop.lease.hold(delivery)

    def _publish_message(self, packet: Packet, element: str) -> None:
        """The broker publishes it as well, unless it died: the lease must not depend on that."""
        subject, data, headers = lease_message(packet, element)
        try:
            post(self._shop.client, subject, data, headers=headers)
        except UnavailableError as error:  # asked for again when the next renewal is due
            log.debug("lease.unavailable", order=packet.order, error=str(error))

    def _give_up(self, _hold: Hold, arrival: Arrival) -> None:
        arrival.delivery.acknowledge()
        self._given_up.add(arrival.packet, arrival.slots.element)

    def _decline_arrival(self, _hold: Hold, arrival: Arrival) -> None:
        log.info("order.declined", order=arrival.packet.order)
        self._given_up.add(arrival.packet, arrival.slots.element, declined=True)

    # -- actions on what is held ------------------------------------------------------------------

    def _put_down(self, hold: Hold) -> None:
        self._shop.lease.release(hold.delivery)
        hold.delivery.on_lost = hold.delivery.ask_for_message = None  # they hold the hold: a cycle

    def _forget(self, hold: Hold, *, is_acknowledged: bool = False) -> None:
        hold.slots.leave_queue(hold)
        self._put_down(hold)
        if is_acknowledged:
            hold.delivery.acknowledge()
        hold.attempt = None
        del hold.packet, hold.delivery

    def _return(self, hold: Hold) -> None:
        hold.delivery.give_back(BUSY_DELAY)
        self._forget(hold)

    def _decline(self, hold: Hold) -> None:
        log.info("order.declined", order=hold.order)
        self._given_up.add(hold.packet, hold.slots.element, declined=True)
        self._forget(hold, is_acknowledged=True)

    def _start(self, hold: Hold) -> None:
        slots = hold.slots
        slots.leave_queue(hold)
        slots.busy += 1
        hold.has_slot = True
        lose = partial(self._hear, hold, Message.LEASE_LOST)
        attempt = hold.attempt = Attempt(self._shop, hold.packet, slots.assignment, lose)
        if hold.packet.failing:
            attempt.interrupt(Why.ENDING)
        elif hold.packet.cancelled:
            attempt.interrupt(Why.CANCELLED)
        self.none_left.clear()
        attempt.task = asyncio.create_task(self._run(hold, attempt))
        self._tasks.add(attempt.task)
        attempt.task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not self._tasks:
            self.none_left.set()

    # -- its own task -----------------------------------------------------------------------------

    async def _run(self, hold: Hold, attempt: Attempt) -> None:
        exit_ = Exit()
        try:
            exit_ = await execute.execute(attempt, hold.bugs, partial(self._progress, hold))
        except Exception:
            log.exception("order.bug", order=hold.order)
            hold.bugs += 1
            exit_ = BUG
        finally:
            try:
                await execute.clear_up(attempt)
            finally:
                self._left(hold, exit_)

    def _progress(self, hold: Hold, message: Message) -> None:
        self._hear(hold, message)
        if message is Message.ENDED:
            self._leave_slot(hold)

    def _left(self, hold: Hold, exit_: Exit) -> None:
        if exit_.is_done:
            hold.delivery.acknowledge()
        elif exit_.returns_after is not None:
            hold.delivery.give_back(exit_.returns_after)
        if exit_.is_given_up:
            self._given_up.add(hold.packet, hold.slots.element, declined=exit_.is_declined)
        self._hear(hold, Message.LEFT)
        self._leave_slot(hold)

    def _leave_slot(self, hold: Hold) -> None:
        if hold.has_slot:
            hold.has_slot = False
            hold.slots.busy -= 1
            self.fill(hold.slots)
            hold.slots.on_change()


def _supersede(hold: Hold, arrival: Arrival) -> None:
    """What runs here does not count any more."""
    if hold.attempt is not None:
        hold.attempt.unreported.clear()
    hold.interrupt(Why.LOST)
    arrival.delivery.give_back(BUSY_DELAY)


def _mark_cancelled(hold: Hold) -> None:
    due = CleanUp(state=OrderState.CANCELLED, reason="it was cancelled while it waited", since=datetime.now(UTC))
    hold.packet = replace(hold.packet, ending=due)
