"""The way of one order through its tasks: the pipe.

Tasks run in order until one fails; then `on_failure`, then `always`.  What the log knows as ended is
not done again: an attempt continues at the first task that has not ended.
"""

from __future__ import annotations

import asyncio
from datetime import datetime

import msgspec

from muster.agent.attempt import Attempt, Interrupted, Why
from muster.agent.job import run_job
from muster.agent.plan import Step
from muster.blueprints.task import Failed, Suspended
from muster.mesh.model import FINAL_JOB_STATES, Job, JobState, OrderState


class End(msgspec.Struct, frozen=True):
    """The order has ended."""

    state: OrderState
    reason: str = ""


Way = End | Suspended
"""How an attempt may leave off; it may also be interrupted for good."""

_FINISHED = End(OrderState.FINISHED)
_CANCELLED = End(OrderState.CANCELLED)


async def run(attempt: Attempt) -> Way:
    """Runs the order's tasks.

    Raises:
        Interrupted: the attempt was lost or the agent stops; nothing may be reported as ended.
    """
    plan = attempt.plan
    if plan.timeout is None:
        return await _run(attempt)
    timer = asyncio.get_running_loop().call_later(plan.timeout, attempt.interrupt, Why.TIMEOUT)
    try:
        return await _run(attempt)
    finally:
        timer.cancel()


async def _run(attempt: Attempt) -> Way:
    plan = attempt.plan
    try:
        with attempt.yielding(to=Why.ENDING):
            way = await _tasks(attempt, plan.steps)
    except Interrupted:
        attempt.check(Why.STOPPED)
        return await _cut_off(attempt)
    if isinstance(way, Suspended) or not (plan.on_failure or plan.always):
        return way
    return await _clean_up(attempt, way, plan.always if way is _FINISHED else (*plan.on_failure, *plan.always))


async def _tasks(attempt: Attempt, steps: tuple[Step, ...]) -> Way:
    """Up to the first failure."""
    for step in steps:
        attempt.check(Why.ENDING)
        if (ended := _ended(attempt, step)) is not None:
            if ended.state is JobState.FAILED:
                return _failed(step, ended.error or "")
            continue
        outcome = await run_job(attempt, step)
        if isinstance(outcome, Failed):
            return _failed(step, outcome.error)
        if isinstance(outcome, Suspended):
            attempt.check(Why.ENDING)
            return outcome
    return _FINISHED


def _ended(attempt: Attempt, step: Step) -> Job | None:
    job = attempt.jobs.get(step.name)
    return job if job is not None and job.state in FINAL_JOB_STATES else None


def _failed(step: Step, error: str) -> End:
    return End(OrderState.FAILED, f"task {step.name!r} failed: {error}")


async def _cut_off(attempt: Attempt) -> Way:
    """Cancelled, or out of time: the current task has ended."""
    plan, way = attempt.plan, _cut(attempt)
    if way is _CANCELLED:
        _stop_main(attempt, JobState.CANCELLED, "cancelled")
        return await _clean_up(attempt, way, plan.always)
    _stop_main(attempt, JobState.FAILED, way.reason)
    return await _clean_up(attempt, way, (*plan.on_failure, *plan.always))


def _cut(attempt: Attempt) -> End:
    if attempt.packet.failing:
        return End(OrderState.FAILED, attempt.packet.failing)
    if attempt.why is Why.CANCELLED:
        return _CANCELLED
    return End(OrderState.FAILED, f"the order timed out after {attempt.plan.blueprint.timeout}")


async def _clean_up(attempt: Attempt, way: End, steps: tuple[Step, ...]) -> Way:
    """`on_failure` and `always`: each of them runs, however the others ended.

    From a cancel or the end of the order's time on, they have a bounded time.
    """
    try:
        with attempt.yielding(to=Why.STOPPED):
            async with attempt.hurrying():
                for step in steps:
                    outcome = await _clean(attempt, step)
                    if isinstance(outcome, Suspended):
                        return outcome
                    if outcome is not None and way is _FINISHED:
                        way = _failed(step, outcome)
    except TimeoutError:
        stop_jobs(attempt, JobState.FAILED, "not finished within the time for cleaning up")
        return _cut(attempt) if way is _FINISHED else way
    return way


async def _clean(attempt: Attempt, step: Step) -> Suspended | str | None:
    """One of them, to its end: how it failed, if it did.  An order that is to end does not let go of its slot."""
    while (ended := _ended(attempt, step)) is None:
        outcome = await run_job(attempt, step)
        if isinstance(outcome, Suspended):
            if attempt.why is Why.NOT:
                return outcome
            await _until(attempt, outcome.until)
    return (ended.error or "") if ended.state is JobState.FAILED else None


async def _until(attempt: Attempt, time: datetime | None) -> None:
    """Waits; without a time, until the wait is interrupted."""
    if time is None:
        await asyncio.get_running_loop().create_future()
    else:
        await asyncio.sleep((time - attempt.shop.clock.now()).total_seconds())


def stop_jobs(attempt: Attempt, state: JobState, why: str) -> None:
    """No job may stay open in an order that has ended."""
    for job in [job for job in attempt.jobs.values() if job.state not in FINAL_JOB_STATES]:
        attempt.end_job(job, state, error=why)


def _stop_main(attempt: Attempt, state: JobState, why: str) -> None:
    stop_jobs(attempt, state, why)
    if any(attempt.jobs[step.name].state is state for step in attempt.plan.steps if step.name in attempt.jobs):
        return
    # Between two tasks the next one is what was stopped, so that a retry knows where to continue.
    for step in attempt.plan.steps:
        if step.name not in attempt.jobs:
            attempt.note(Job(name=step.name, state=state, error=why))
            return
