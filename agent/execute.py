"""Takes one order from its claim to the report of its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import structlog

from muster.agent import report
from muster.agent.attempt import Attempt, Interrupted, Why
from muster.agent.claim import Claim, Drop, Wait, claim
from muster.agent.context import remove
from muster.agent.hold import Message
from muster.agent.isolation import of_order
from muster.agent.run import End, Way, run, stop_jobs
from muster.agent.start import is_direct
from muster.mesh.errors import RefusedError
from muster.mesh.model import JobState, OrderState

log = structlog.get_logger()

OUTPUT_TIMEOUT: Final = 30.0
"""Seconds for all output of an order to arrive before its end is reported."""

LAST_OUTPUT_TIMEOUT: Final = 2.0
"""Seconds for output to arrive after that, or once this agent's stop has cut off the tasks."""

BUG_DELAY: Final = 5.0
"""Seconds until a message is delivered again on which this agent has failed."""

MOST_BUGS: Final = 3
"""How often this agent may fail on an order until it fails too: offered anew for ever, it would run for ever."""


class Exit(NamedTuple):
    """How an order leaves this agent."""

    is_done: bool = False
    """Its message is acknowledged."""
    returns_after: float | None = None
    """Otherwise: seconds after which its message is delivered again; None: it does once its lease has expired."""
    is_given_up: bool = False
    """Whether that is reported to the broker."""
    is_declined: bool = False
    """Whether none of it was run."""


DONE: Final = Exit(is_done=True)
BUG: Final = Exit(returns_after=BUG_DELAY, is_given_up=True)

Hear = Callable[[Message], None]
"""Reports to the order's hold how far it is."""


async def execute(attempt: Attempt, bugs: int, hear: Hear) -> Exit:
    """Claims and runs an order on which this agent has failed `bugs` times already."""
    answer = await claim(attempt)
    if isinstance(answer, Drop):
        return DONE
    if isinstance(answer, Wait):
        return _later(attempt, answer)
    attempt.claimed(answer.packet, answer.plan)
    hear(Message.CLAIMED)
    try:
        is_reported = await _reported(attempt, await _way(attempt, answer, bugs), hear)
    except Interrupted:
        is_reported = False
    finally:
        await _end_cgroup(attempt)
    return DONE if is_reported else await _interrupted(attempt)


async def clear_up(attempt: Attempt) -> None:
    """Leaves nothing of an attempt behind."""
    try:
        for output in attempt.outputs:
            await output.drop()
    finally:
        if attempt.folder is not None:
            await remove(attempt.folder)


def _later(attempt: Attempt, wait: Wait) -> Exit:
    if is_direct(attempt.packet):  # it is ours, so nobody else would run it
        return Exit(is_given_up=True, is_declined=True)
    return Exit(returns_after=wait.seconds)


async def _way(attempt: Attempt, answer: Claim, bugs: int) -> Way:
    """How the order leaves off: what makes it impossible here, or what its tasks come to."""
    if reason := _obstacle(attempt, answer):
        return End(OrderState.FAILED, reason)
    try:
        return await run(attempt)
    except Interrupted:
        raise
    except Exception as error:
        if bugs + 1 < MOST_BUGS:  # any other agent has the same bug, so the order must end at some point
            raise
        log.exception("order.bug", order=attempt.packet.order)
        reason = f"its agent has failed on it {MOST_BUGS} times: {error!r}"
        stop_jobs(attempt, JobState.FAILED, reason)
        return End(OrderState.FAILED, reason)


def _obstacle(attempt: Attempt, answer: Claim) -> str:
    """Why the order cannot run here; empty if it can."""
    if answer.problems:
        return "; ".join(str(problem) for problem in answer.problems)
    try:
        attempt.isolation = of_order(attempt.shop.isolation, attempt.plan.blueprint)
        attempt.shop.cgroups.prepare(attempt.isolation)
    except RefusedError as error:
        return error.detail
    return ""


async def _reported(attempt: Attempt, way: Way, hear: Hear) -> bool:
    """Reports how the attempt leaves off; its slot is free before that, so the next claim goes with the same write."""
    await _end_cgroup(attempt)
    has_arrived = not attempt.outputs or await report.output(attempt, OUTPUT_TIMEOUT)
    hear(Message.ENDED)
    if isinstance(way, End):
        is_reported = await report.done(attempt, way.state, way.reason)
    else:
        is_reported = await report.suspended(attempt, way)
    if not has_arrived and not await report.last_output(attempt, LAST_OUTPUT_TIMEOUT):
        log.warning("output.lost", order=attempt.packet.order, why="the output stream did not take it in time")
    return is_reported


async def _interrupted(attempt: Attempt) -> Exit:
    log.info("order.interrupted", order=attempt.packet.order, why=attempt.why.name.lower())
    if attempt.why is Why.STOPPED:
        await report.last_output(attempt, LAST_OUTPUT_TIMEOUT)
    if attempt.unreported:  # what has ended need not be done again; a later attempt's record before it refuses this
        report.send(attempt)
    return Exit(is_given_up=True) if attempt.why is Why.LOST else Exit(returns_after=0.0)


async def _end_cgroup(attempt: Attempt) -> None:
    """What the order has left behind dies with it, before anybody else may start."""
    if attempt.cgroup is not None:
        cgroup, attempt.cgroup = attempt.cgroup, None
        await attempt.shop.spawner.close(cgroup)
