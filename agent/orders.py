"""Every order that is on this agent, each in a task of its own, from its message to its last word."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Self

import msgspec
import structlog

from muster.agent import report
from muster.agent.attempt import Attempt, Interrupted, Why
from muster.agent.claim import Claim, Drop, Wait, claim, give_up, read
from muster.agent.context import remove
from muster.agent.isolation import of_order
from muster.agent.lease import Delivery
from muster.agent.run import End, Way, run, stop_jobs
from muster.agent.slots import Slots
from muster.agent.workshop import Workshop
from muster.mesh.errors import RefusedError
from muster.mesh.jetstream import sequence
from muster.mesh.model import JobState, OrderState, Packet

log = structlog.get_logger()

SOON = 0.2
"""Seconds until a message comes again whose order is just being left here."""

LAST_WORDS = 2.0
"""Seconds for the output of what this agent's end has cut off to arrive."""

BUG_PAUSE = 5.0
"""Seconds until a message comes again on which we have failed."""

MOST_BUGS = 3
"""How often we may fail on an order until it fails too: offered anew for ever, it would run its tasks for ever."""

REMEMBERED = 1000
"""Orders of which it is known that they were given up or failed on here, or cancelled before they were here."""


class Orders:
    """What runs here, by order."""

    def __init__(self, shop: Workshop) -> None:
        self.attempts: dict[str, Attempt] = {}
        self._shop = shop
        self._tasks: set[asyncio.Task[None]] = set()
        self._given_up: deque[str] = deque(maxlen=REMEMBERED)
        """Orders that began without us: should their first record still come, it is too late."""
        self._cancelled: deque[str] = deque(maxlen=REMEMBERED)
        """Orders that were to be stopped and were not here, or still waited for a slot."""
        self._bugs: deque[str] = deque(maxlen=REMEMBERED)
        """Orders on which we have failed, once for each time."""
        self.none_left = asyncio.Event()
        self.none_left.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end()

    async def end(self) -> None:
        """Leave every order at once, and wait until its tasks are gone."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def start(self, slots: Slots, delivery: Delivery) -> bool:
        """Take an order on; False if that needs no slot."""
        try:
            packet = read(delivery)
        except msgspec.MsgspecError as error:
            log.warning("work.unreadable", subject=delivery.message.subject, error=str(error))
            self._put_down(delivery)
            delivery.acknowledge()
            return False
        if self.take_up(delivery, packet):
            return False
        if packet.rev == 0:
            self._given_up.append(packet.order)
        elif delivery.is_begun and packet.order in self._given_up:
            self._put_down(delivery)
            return False
        attempt = Attempt(self._shop, delivery, packet, slots.assignment)
        delivery.on_lost = attempt.lose
        self.attempts[packet.order] = attempt
        self.none_left.clear()
        if packet.failing:
            attempt.interrupt(Why.ENDING)
        elif packet.cancelled or (delivery.is_begun and packet.order in self._cancelled):
            attempt.interrupt(Why.CANCELLED)
        attempt.task = asyncio.create_task(self._handle(attempt, slots))
        self._keep(attempt.task)
        return True

    def take_up(self, delivery: Delivery, packet: Packet) -> bool:
        """Whether the message is of an order that runs here; then it is taken for what it says to that."""
        attempt = self.attempts.get(packet.order)
        if attempt is not None:
            self._again(attempt, delivery, packet)
        return attempt is not None

    def decline(self, packet: Packet, element: str) -> None:
        """An order has begun here that we do not run: the broker shall offer it anew."""
        log.info("order.declined", order=packet.order)
        self._given_up.append(packet.order)
        self._keep(asyncio.create_task(give_up(self._shop, packet, element, declined=True)))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _again(self, attempt: Attempt, delivery: Delivery, packet: Packet) -> None:
        """Another message of an order that is here: the same one, an older copy, or the next attempt's."""
        if (
            _is_its_own(attempt.delivery, delivery, packet) and attempt.why < Why.STOPPED
        ):  # its lease looked over to the server: this one has a fresh lease
            self._put_down(attempt.delivery)
            attempt.delivery = delivery
            delivery.on_lost = attempt.lose
            return
        self._put_down(delivery)
        if packet.rev < attempt.packet.rev:
            delivery.acknowledge()
            return
        if packet.rev > attempt.packet.rev:  # the order was offered anew, so what we do does not count any more
            attempt.untold.clear()
            attempt.interrupt(Why.LOST)
        delivery.give_back(SOON)

    def _put_down(self, delivery: Delivery) -> None:
        self._shop.lease.release(delivery)
        delivery.on_lost = None  # it holds the attempt, which holds the delivery: only the collector would free them

    def cancel(self, order: str) -> None:
        """Somebody wants it stopped.  Not here: then the broker hears so when its message comes again."""
        if (attempt := self.attempts.get(order)) is not None:
            attempt.interrupt(Why.CANCELLED)
        else:
            self._cancelled.append(order)

    def close(self) -> None:
        """This agent is to end: what may not run twice does not begin any more."""
        self._shop.closing.set()

    def stop(self) -> None:
        """This agent ends: leave everything for another attempt."""
        for attempt in list(self.attempts.values()):
            attempt.interrupt(Why.STOPPED)

    async def _handle(self, attempt: Attempt, slots: Slots) -> None:
        try:
            await self._from_claim_to_end(attempt, slots)
        except Interrupted:
            log.info("order.left", order=attempt.packet.order, why=attempt.why.name.lower())
            await _end_cgroup(attempt)
            if attempt.why is Why.STOPPED:
                await report.flushed_in(attempt, LAST_WORDS)
            if attempt.untold:  # what has ended need not be done again; a later attempt's record before it refuses this
                report.begin(attempt)
            if attempt.why is Why.LOST:
                await give_up(self._shop, attempt.packet, attempt.assignment.element)
            else:
                attempt.delivery.give_back()
        except Exception:
            log.exception("order.bug", order=attempt.packet.order)
            await _end_cgroup(attempt)
            attempt.delivery.give_back(BUG_PAUSE)
            await give_up(self._shop, attempt.packet, attempt.assignment.element)
        finally:
            del self.attempts[attempt.packet.order]
            self._put_down(attempt.delivery)
            if attempt.outputs:
                for output in attempt.outputs:
                    output.give_up()
            try:
                if attempt.folder is not None:
                    await remove(attempt.folder, is_shared=attempt.isolation.is_none)
            finally:
                _leave_slot(attempt, slots)
                if not self.attempts:
                    self.none_left.set()

    async def _from_claim_to_end(self, attempt: Attempt, slots: Slots) -> None:
        delivery, packet = attempt.delivery, attempt.packet
        answer = await claim(self._shop, delivery, packet, attempt.assignment)
        if isinstance(answer, Wait):
            attempt.delivery.give_back(answer.seconds)
            return
        if isinstance(answer, Drop):
            attempt.delivery.acknowledge()
            return
        self._take(attempt, answer, packet)
        if reason := self._obstacle(attempt, answer):
            is_told = await _tell(attempt, slots, End(OrderState.FAILED, reason))
        else:
            is_told = await self._run_or_fail(attempt, slots)
        if is_told:
            attempt.delivery.acknowledge()
            return
        raise Interrupted

    def _obstacle(self, attempt: Attempt, answer: Claim) -> str:
        """Why the order cannot run here; empty if it can."""
        if answer.problems:
            return "; ".join(str(problem) for problem in answer.problems)
        try:
            attempt.isolation = of_order(self._shop.isolation, attempt.plan.blueprint)
            self._shop.cgroups.prepare(attempt.isolation)
        except RefusedError as error:
            return error.detail
        return ""

    def _take(self, attempt: Attempt, answer: Claim, before: Packet) -> None:
        attempt.plan = answer.plan
        if answer.packet is not before:
            attempt.packet = answer.packet
            attempt.jobs = {job.name: job for job in answer.packet.jobs}

    async def _run_or_fail(self, attempt: Attempt, slots: Slots) -> bool:
        """Run it; whoever gets it after a bug of ours has the same bug, so some day it has to end."""
        try:
            return await _tell(attempt, slots, await run(attempt))
        except Interrupted:
            raise
        except Exception as error:
            self._bugs.append(attempt.packet.order)
            if self._bugs.count(attempt.packet.order) < MOST_BUGS:
                raise
            log.exception("order.bug", order=attempt.packet.order)
            reason = f"its agent has failed on it {MOST_BUGS} times: {error!r}"
            stop_jobs(attempt, JobState.FAILED, reason)
            return await _tell(attempt, slots, End(OrderState.FAILED, reason))


async def _tell(attempt: Attempt, slots: Slots, way: Way) -> bool:
    """Tell how the attempt leaves off, and make room: what comes next is claimed in one write with that."""
    await _end_cgroup(attempt)
    if attempt.outputs:
        await report.flushed(attempt)
    _leave_slot(attempt, slots)
    if isinstance(way, End):
        return await report.done(attempt, way.state, way.reason)
    return await report.suspended(attempt, way)


async def _end_cgroup(attempt: Attempt) -> None:
    """What the order has left behind dies with it, before anybody else may begin."""
    if attempt.cgroup is not None:
        cgroup, attempt.cgroup = attempt.cgroup, None
        await attempt.shop.spawner.close(cgroup)


def _leave_slot(attempt: Attempt, slots: Slots) -> None:
    if attempt.has_slot:
        attempt.has_slot = False
        slots.freed()


def _is_its_own(held: Delivery, came: Delivery, packet: Packet) -> bool:
    """Whether a message carries the lease of what runs here: the same again, or an order's first."""
    if held.is_begun:
        return packet.rev == 0
    return not came.is_begun and sequence(came.message) == sequence(held.message)
