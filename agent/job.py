"""One task of an order, from `when` to its last try."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import datetime, timedelta
from typing import Any

import msgspec
import structlog
from msgspec.structs import replace

from muster.agent.attempt import Attempt, Interrupted, Why
from muster.agent.context import TaskContext
from muster.agent.plan import Step
from muster.agent.report import jobs as report_jobs
from muster.blueprints.definition import Retry, Task, duration
from muster.blueprints.task import OUTPUTS_LIMIT, Done, Failed, Outcome, Suspended
from muster.mesh.errors import MusterError
from muster.mesh.model import Job, JobState
from muster.mesh.nesting import TOO_DEEP, check_levels

log = structlog.get_logger()

OUTPUTS_SHARE = 4
"""A quarter of a message is for the outputs of all jobs: an order's end has them twice, besides everything else."""

LAST_CHECK_TIMEOUT = 1.0
"""Seconds that a task has which continues at its deadline."""

LONG_DELAY = 5.0
"""Seconds from which on a retry delay gives the slot back, as a `wait` does."""

LONGEST_WAIT = timedelta(days=36525).total_seconds()
"""A century, in seconds: no calendar has what is beyond the year 9999."""


async def run_job(attempt: Attempt, step: Step) -> Outcome | None:
    """Runs the task, as often as its retry policy says; None if its condition does not hold.

    A long delay before the next try suspends it: that try is another attempt's first.

    Raises:
        Interrupted: it must not even start, for the attempt has ended.
    """
    before = attempt.jobs.get(step.name)
    job = _next_job(attempt, before, step)
    outcome: Outcome
    if step.task.when is not None and (before is None or before.state is not JobState.SUSPENDED):
        try:
            holds = step.condition.holds(attempt.values)
        except MusterError as error:
            outcome = Failed(error=f"when: {error}", final=True)
            _conclude(attempt, job, outcome)
            return outcome
        if not holds:
            attempt.end_job(job, JobState.SKIPPED)
            return None
    retry = step.task.retry or _ONCE
    while True:
        outcome = await _try(attempt, step, job)
        if not isinstance(outcome, Failed) or outcome.final or job.tries >= retry.attempts:
            _conclude(attempt, attempt.jobs[job.name], outcome)
            return outcome
        _note_failed_try(attempt, job, outcome, retry)
        delay = _delay(retry, job.tries)
        if delay >= LONG_DELAY:
            return _suspend_until_retry(attempt, job, retry, delay)
        await asyncio.sleep(delay)
        job = _next_try(job, _deadline(attempt, step))


_ONCE = Retry()


def _suspend_until_retry(attempt: Attempt, job: Job, retry: Retry, delay: float) -> Suspended:
    """Waits for the next try without a slot; a suspended job without a memo is between two tries."""
    attempt.note(replace(attempt.jobs[job.name], state=JobState.SUSPENDED, memo=None, deadline=None))
    until = attempt.shop.clock.now() + timedelta(seconds=min(delay, LONGEST_WAIT))
    return Suspended(until=until, why=f"to try task {job.name!r} again (try {job.tries + 1} of {retry.attempts})")


def _next_try(job: Job, deadline: datetime | None) -> Job:
    return Job(
        name=job.name,
        state=JobState.RUNNING,
        attempt=job.attempt + 1,
        tries=job.tries + 1,
        started_at=job.started_at,
        idempotent=job.idempotent,
        deadline=deadline,
    )


def _next_job(attempt: Attempt, before: Job | None, step: Step) -> Job:
    started = attempt.shop.clock.now()
    idempotent, deadline = step.task.idempotent, _deadline(attempt, step)
    if before is None:
        return Job(name=step.name, state=JobState.RUNNING, started_at=started, idempotent=idempotent, deadline=deadline)
    if before.state is JobState.SUSPENDED and before.memo is None:
        return _next_try(before, deadline)
    if before.state is JobState.SUSPENDED:
        return replace(before, state=JobState.RUNNING, deadline=before.deadline or deadline)
    return Job(
        name=step.name,
        state=JobState.RUNNING,
        attempt=before.attempt + 1,
        tries=before.tries,
        started_at=before.started_at or started,
        idempotent=idempotent,
        deadline=deadline,
    )


def _deadline(attempt: Attempt, step: Step) -> datetime | None:
    if step.timeout is None:
        return None
    return attempt.shop.clock.now() + timedelta(seconds=min(step.timeout, LONGEST_WAIT))


async def _try(attempt: Attempt, step: Step, job: Job) -> Outcome:
    if not job.idempotent and attempt.shop.closing.is_set():  # killed in the middle, it could not run again
        attempt.interrupt(Why.STOPPED)
        raise Interrupted
    attempt.note(job)
    if not job.idempotent and not await report_jobs(attempt):  # whoever finds it lost must know that it had started
        raise Interrupted
    try:
        task = _filled_in(step, attempt.values) if step.has_templates else step.task
        kind = step.kind
    except MusterError as error:
        return Failed(error=str(error), final=True)
    context = TaskContext(attempt, job)
    try:
        if job.deadline is None:
            outcome = await kind.run(task, context)
        else:
            outcome = await _timed(kind.run(task, context), step, context, job.deadline)
        return _fitting(attempt, job, outcome)
    except MusterError as error:
        return Failed(error=str(error))
    except Exception as error:  # a plug-in's bug must not take the agent down
        log.exception("task.bug", order=context.order, task=task.name, uses=task.uses)
        return Failed(error=f"bug in task kind {task.uses!r}: {error!r}")


async def _timed(running: Awaitable[Outcome], step: Step, context: TaskContext, deadline: datetime) -> Outcome:
    """A try with a deadline.  One that waited until then may still find that what it waited for has come."""
    is_new = context.memo is None
    late = Failed(error=f"timed out after {step.task.timeout}")

    def left() -> float:
        return (deadline - context.now).total_seconds()

    try:
        async with asyncio.timeout(step.timeout if is_new else max(LAST_CHECK_TIMEOUT, left())) as limit:
            outcome = await running
    except TimeoutError:
        if not limit.expired():
            raise
        return late
    if isinstance(outcome, Failed) and not is_new and left() <= 0 and context.has_stopped_children:
        return replace(outcome, error=f"{late.error}: {outcome.error}")
    if not isinstance(outcome, Suspended):
        return outcome
    if is_new or left() > 0:
        return replace(outcome, until=min(outcome.until or deadline, deadline))
    context.stopped(outcome.orders)
    return late


def _filled_in(step: Step, values: dict[str, Any]) -> Task:
    from muster.blueprints.templates import as_text, render

    task = step.task
    return replace(
        task,
        with_=render(task.with_, values),
        files=render(task.files, values),
        env={name: as_text(render(text, values, f"env.{name}")) for name, text in task.env.items()},
    )


def _fitting(attempt: Attempt, job: Job, outcome: Outcome) -> Outcome:
    """The outcome, if its outputs are of a size and a depth that records may have, also with those of other jobs."""
    outputs = outcome.memo if isinstance(outcome, Suspended) else outcome.outputs
    attempt.kept.pop(job.name, None)
    problem = _unfit(attempt, job, outputs) if outputs else ""
    if not problem:
        return outcome
    exit_code = None if isinstance(outcome, Suspended) else outcome.exit_code
    return Failed(error=problem, exit_code=exit_code, final=True)


def _unfit(attempt: Attempt, job: Job, outputs: dict[str, Any]) -> str:
    """Why a job's outputs cannot be kept; empty if they can, and then they count."""
    try:
        check_levels(data := msgspec.json.encode(outputs))
    except RecursionError:
        return f"its outputs are {TOO_DEEP}"
    size, before = len(data), sum(attempt.kept.values())
    if size > OUTPUTS_LIMIT:
        return (
            f"its outputs are {size} bytes of JSON, and at most {OUTPUTS_LIMIT} are kept; print what is large instead"
        )
    most = attempt.shop.client.max_payload // OUTPUTS_SHARE
    if size + before > most:
        message = f"its outputs are too large: {size} bytes of JSON after {before}, and an order keeps at most {most}"
        return f"{message}; print what is large instead"
    attempt.kept[job.name] = size
    return ""


def _conclude(attempt: Attempt, job: Job, outcome: Outcome) -> None:
    match outcome:
        case Done():
            attempt.end_job(job, JobState.FINISHED, exit_code=outcome.exit_code, outputs=outcome.outputs)
        case Failed():
            changes = {"exit_code": outcome.exit_code, "outputs": outcome.outputs, "error": outcome.error}
            attempt.end_job(job, JobState.FAILED, **changes)
        case Suspended():
            attempt.note(replace(job, state=JobState.SUSPENDED, memo=outcome.memo))


def _note_failed_try(attempt: Attempt, job: Job, outcome: Failed, retry: Retry) -> None:
    error = f"try {job.tries} of {retry.attempts}: {outcome.error}"
    attempt.note(replace(job, exit_code=outcome.exit_code, error=error, memo=None))


def _delay(retry: Retry, tried: int) -> float:
    longest, first = (duration(text).total_seconds() for text in (retry.max_delay, retry.delay))
    try:
        return min(longest, first * retry.backoff ** (tried - 1))
    except OverflowError:  # `backoff` alone is too much for a float by now
        return longest if first else 0.0
