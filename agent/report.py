"""What is reported of an attempt to the log, and when.

Jobs that start and end within a moment are reported with the order's end, so that a short order costs
one claim and one Done.  What is unreported for longer is reported as it is then.  A report that
did not arrive needs no second try of its own: the next one says the same and more.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from msgspec.structs import replace

from muster.agent.attempt import Attempt, Interrupted, Why
from muster.agent.hold import Hold
from muster.agent.workshop import write
from muster.blueprints.task import Suspended
from muster.mesh import records
from muster.mesh.errors import TooLargeError, UnavailableError
from muster.mesh.jetstream import LostRaceError, PubAck
from muster.mesh.model import Job, OrderState
from muster.mesh.service import Service

COALESCE: Final = 0.25
"""Seconds for which a change may stay unreported."""

CHECK_INTERVAL: Final = 0.1


class Reporter(Service):
    """Reports the changes of all running attempts: one loop for all of them."""

    def __init__(self, holds: dict[str, Hold]) -> None:
        super().__init__()
        self._holds = holds

    async def run(self) -> None:
        """Checks, until cancelled."""
        loop = asyncio.get_running_loop()
        self.ready.set()
        while True:
            await asyncio.sleep(CHECK_INTERVAL)
            before = loop.time() - COALESCE
            for hold in self._holds.values():
                if (attempt := hold.attempt) is not None and _is_due(attempt, before):
                    send(attempt)


def _is_due(attempt: Attempt, before: float) -> bool:
    return bool(attempt.unreported) and attempt.report is None and attempt.changed_at < before and attempt.is_ours


def send(attempt: Attempt) -> None:
    """Sends all that is unreported, without waiting."""
    shop, packet = attempt.shop, attempt.packet
    changed = tuple(attempt.unreported.values())
    record = records.Reported(order=packet.order, attempt=packet.attempt, jobs=changed)
    attempt.changed_at = asyncio.get_running_loop().time()  # if it fails, the next try is a moment away
    try:
        attempt.report = shop.publisher.send(
            records.subject(record, attempt.assignment.element), records.encode(record)
        )
    except UnavailableError:
        return

    def answered(future: asyncio.Future[PubAck]) -> None:
        attempt.report = None
        if not future.cancelled() and future.exception() is None:
            arrived(attempt, changed)

    attempt.report.add_done_callback(answered)


def arrived(attempt: Attempt, changed: tuple[Job, ...]) -> None:
    """The log knows these; what has changed since stays unreported."""
    for job in changed:
        if attempt.unreported.get(job.name) is job:
            del attempt.unreported[job.name]


async def jobs(attempt: Attempt) -> bool:
    """Reports all that is unreported, and waits until it is on the log; False if the attempt must stop."""
    changed = tuple(attempt.unreported.values())
    record = records.Reported(order=attempt.packet.order, attempt=attempt.packet.attempt, jobs=changed)
    return await _write(attempt, record)


async def suspended(attempt: Attempt, way: Suspended) -> bool:
    """Reports that the order waits; False if the attempt must not report any more."""
    packet = attempt.packet
    record = records.Suspended(
        order=packet.order,
        attempt=packet.attempt,
        jobs=tuple(attempt.unreported.values()),
        until=way.until,
        children=way.children,
        orders=way.orders,
        cleans_up=bool(attempt.plan.always),
        why=way.why,
    )
    return await _write(attempt, record)


async def done(attempt: Attempt, state: OrderState, reason: str) -> bool:
    """Reports the end; False if the attempt must not report any more."""
    packet = attempt.packet
    record = records.Done(
        order=packet.order,
        attempt=packet.attempt,
        state=state,
        reason=reason,
        jobs=tuple(attempt.unreported.values()),
        outputs=attempt.collected(),
    )
    try:
        return await _write(attempt, record)
    except TooLargeError as error:
        return await _write(attempt, _without_outputs(record, error))


def _without_outputs(record: records.Done, error: TooLargeError) -> records.Done:
    jobs = tuple(replace(job, outputs={}) for job in record.jobs)
    reason = f"{record.reason}; " if record.reason else ""
    reason = f"{reason}its outputs are lost, because they are too large: {error.detail}"
    return replace(record, state=OrderState.FAILED, reason=reason, jobs=jobs, outputs={})


async def output(attempt: Attempt, within: float) -> bool:
    """Waits for all output of the attempt to arrive, or to count no more; whether it has `within` so many seconds."""
    with suppress(Interrupted), attempt.yielding(to=Why.STOPPED):
        return await last_output(attempt, within)
    return True


async def last_output(attempt: Attempt, within: float) -> bool:
    """The same, of an attempt that was interrupted."""
    with suppress(TimeoutError):
        async with asyncio.timeout(within):
            for each in attempt.outputs:
                await each.arrived()
            return True
    return False


async def _write(attempt: Attempt, record: records.Reported | records.Suspended | records.Done) -> bool:
    if not attempt.is_ours:
        return False
    try:
        ack = await write(attempt.shop, record, attempt.assignment.element, lambda: attempt.is_ours)
    except LostRaceError:  # no compare-and-set was asked for
        return False
    if ack is None:
        return False
    arrived(attempt, record.jobs)
    return True
