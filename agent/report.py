"""What the log is told of an attempt, and when.

Jobs that start and end within a moment are told with the order's end, so that a short order costs
one claim and one Done.  Whatever is untold for longer is told as it stands then.  A report that
did not arrive needs no second try of its own: the next one tells the same and more.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from msgspec.structs import replace

from muster.agent.attempt import Attempt, Interrupted, Why
from muster.agent.workshop import write
from muster.blueprints.task import Suspended
from muster.mesh import records
from muster.mesh.errors import TooLargeError, UnavailableError
from muster.mesh.jetstream import LostRaceError, PubAck
from muster.mesh.model import Job, OrderState
from muster.mesh.service import Service

COALESCE: Final = 0.25
"""Seconds for which a change may stay untold."""

TICK: Final = 0.1


class Teller(Service):
    """Tells the changes of all running attempts: one loop for all of them."""

    def __init__(self, attempts: dict[str, Attempt]) -> None:
        super().__init__()
        self._attempts = attempts

    async def run(self) -> None:
        """Look, until cancelled."""
        loop = asyncio.get_running_loop()
        self.ready.set()
        while True:
            await asyncio.sleep(TICK)
            before = loop.time() - COALESCE
            for attempt in self._attempts.values():
                if attempt.untold and attempt.told is None and attempt.changed_at < before and attempt.is_ours:
                    begin(attempt)


def begin(attempt: Attempt) -> None:
    """Send all that is untold, without waiting."""
    shop, packet = attempt.shop, attempt.packet
    jobs = tuple(attempt.untold.values())
    record = records.Reported(order=packet.order, attempt=packet.attempt, jobs=jobs)
    attempt.changed_at = asyncio.get_running_loop().time()  # if it fails, the next try is a moment away
    try:
        told = shop.publisher.send(records.subject(record, attempt.assignment.element), records.encode(record))
    except UnavailableError:
        return
    attempt.told = told

    def answered(future: asyncio.Future[PubAck]) -> None:
        attempt.told = None
        if not future.cancelled() and future.exception() is None:
            arrived(attempt, jobs)

    told.add_done_callback(answered)


def arrived(attempt: Attempt, jobs: tuple[Job, ...]) -> None:
    """The log knows these; what has changed since stays untold."""
    for job in jobs:
        if attempt.untold.get(job.name) is job:
            del attempt.untold[job.name]


async def tell(attempt: Attempt) -> bool:
    """Tell all that is untold, and wait until it is on the log; False if we may not go on."""
    jobs = tuple(attempt.untold.values())
    record = records.Reported(order=attempt.packet.order, attempt=attempt.packet.attempt, jobs=jobs)
    return await _write(attempt, record)


async def suspended(attempt: Attempt, way: Suspended) -> bool:
    """Tell that the order waits; False if we may not report any more."""
    packet = attempt.packet
    record = records.Suspended(
        order=packet.order,
        attempt=packet.attempt,
        jobs=tuple(attempt.untold.values()),
        until=way.until,
        children=way.children,
        orders=way.orders,
        cleans_up=bool(attempt.plan.always),
        why=way.why,
    )
    return await _write(attempt, record)


async def done(attempt: Attempt, state: OrderState, reason: str) -> bool:
    """Tell the end; False if we may not report any more."""
    packet = attempt.packet
    record = records.Done(
        order=packet.order,
        attempt=packet.attempt,
        state=state,
        reason=reason,
        jobs=tuple(attempt.untold.values()),
        outputs=attempt.collected(),
    )
    try:
        return await _write(attempt, record)
    except TooLargeError as error:
        return await _write(attempt, _without_outputs(record, error))


def _without_outputs(record: records.Done, error: TooLargeError) -> records.Done:
    jobs = tuple(replace(job, outputs={}) for job in record.jobs)
    reason = f"{record.reason}; " if record.reason else ""
    reason = f"{reason}its outputs are lost, for they are too many: {error.detail}"
    return replace(record, state=OrderState.FAILED, reason=reason, jobs=jobs, outputs={})


async def flushed(attempt: Attempt) -> None:
    """Wait until all output of the attempt has arrived, or does not count any more."""
    with suppress(Interrupted), attempt.yielding(to=Why.STOPPED):
        for output in attempt.outputs:
            await output.flushed()


async def flushed_in(attempt: Attempt, seconds: float) -> None:
    """Wait so long at most until the output of an attempt that was cut off has arrived."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            for output in attempt.outputs:
                await output.flushed()


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
