"""The way of one order through its tasks: the pipe.

Tasks run in order until one fails; then `on_failure`, then `always`.  What the log knows as ended is
not done again: an attempt goes on at the first task that has not ended.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

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


async def run(attempt: Attempt) -> Way:
    """Run the order's tasks.

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
        with attempt.yielding(to=Why.TIMEOUT):
            way = await _tasks(attempt, plan.steps)
    except Interrupted:
        attempt.check(Why.STOPPED)
        return await _cut_off(attempt)
    if isinstance(way, Suspended) or not (plan.on_failure or plan.always):
        return way
    with attempt.yielding(to=Why.STOPPED):
        return await _wind_up(attempt, way, plan.on_failure if way is not _FINISHED else ())


async def _tasks(attempt: Attempt, steps: tuple[Step, ...]) -> Way:
    """Up to the first failure."""
    for step in steps:
        attempt.check(Why.TIMEOUT)
        if (ended := _ended(attempt, step)) is not None:
            if ended.state is JobState.FAILED:
                return _failed(step, ended.error or "")
            continue
        outcome = await run_job(attempt, step)
        if isinstance(outcome, Failed):
            return _failed(step, outcome.error)
        if isinstance(outcome, Suspended):
            attempt.check(Why.TIMEOUT)
            return outcome
    return _FINISHED


def _ended(attempt: Attempt, step: Step) -> Job | None:
    job = attempt.jobs.get(step.name)
    return job if job is not None and job.state in FINAL_JOB_STATES else None


def _failed(step: Step, error: str) -> End:
    return End(OrderState.FAILED, f"task {step.name!r} failed: {error}")


async def _wind_up(attempt: Attempt, way: End, on_failure: tuple[Step, ...]) -> Way:
    """`on_failure` and `always`: each of them runs, whatever became of the others."""
    for step in (*on_failure, *attempt.plan.always):
        if _ended(attempt, step) is not None:
            continue
        outcome = await run_job(attempt, step)
        if isinstance(outcome, Suspended):
            return outcome
        if isinstance(outcome, Failed) and way is _FINISHED:
            way = _failed(step, outcome.error)
    return way


async def _cut_off(attempt: Attempt) -> Way:
    """Cancelled, or out of time: the task at hand is over, and what is left has a bounded time."""
    is_cancel = attempt.why is Why.CANCELLED
    why = "cancelled" if is_cancel else f"the order's time of {attempt.plan.blueprint.timeout} is over"
    way = End(OrderState.CANCELLED, "") if is_cancel else End(OrderState.FAILED, why)
    _stop_main(attempt, JobState.CANCELLED if is_cancel else JobState.FAILED, why)
    limit = attempt.shop.settings.cleanup.total_seconds()
    steps = attempt.plan.always if is_cancel else (*attempt.plan.on_failure, *attempt.plan.always)
    if not steps:
        return way
    with attempt.yielding(to=Why.STOPPED), suppress(TimeoutError):
        async with asyncio.timeout(limit):
            for step in steps:
                if _ended(attempt, step) is None:
                    await run_job(attempt, step)
    stop_jobs(attempt, JobState.FAILED, "not done in the time for cleaning up")
    return way


def stop_jobs(attempt: Attempt, state: JobState, why: str) -> None:
    """No job may stay open in an order that has ended."""
    for job in [job for job in attempt.jobs.values() if job.state not in FINAL_JOB_STATES]:
        attempt.end_job(job, state, error=why)


def _stop_main(attempt: Attempt, state: JobState, why: str) -> None:
    stop_jobs(attempt, state, why)
    if any(attempt.jobs[step.name].state is state for step in attempt.plan.steps if step.name in attempt.jobs):
        return
    # Between two tasks the next one is what was stopped, so that a retry knows where to go on.
    for step in attempt.plan.steps:
        if step.name not in attempt.jobs:
            attempt.note(Job(name=step.name, state=state, error=why))
            return
