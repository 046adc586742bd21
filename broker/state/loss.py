"""What becomes of an order whose agent is lost, and how its clean-up still gets to run.

An attempt that is lost is followed by the next one, until the order has lost too many in a row: what ends its agents
would end them for ever.  An order that ends so, or by a task that must not run twice, is offered once more, to the
same element and for its clean-up alone: `on_failure` and `always` need the host that the tasks ran on.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from muster.broker.state.order import ended, is_held, queued, stopped
from muster.broker.state.step import Refused, Stamp
from muster.mesh import records
from muster.mesh.model import CleanUp, JobState, Loss, Order, OrderState

MOST_LOST: Final = 3
"""Attempts that an order may lose in a row, with no job ended between them."""

KEPT: Final = 10
"""Lost attempts that an order remembers."""


def lost(order: Order, record: records.Lost, stamp: Stamp) -> Order | Refused:
    """Its agent is gone: it is offered again, unless a task must not run twice or it was lost too often."""
    if not is_held(order) or record.attempt != order.attempt:
        return Refused("that attempt does not hold it")
    if not record.ran:
        return _offered_anew(order)
    order = _with_loss(order, record, stamp)
    if order.clean_up is not None:
        reason = f"{order.clean_up.reason}; its agent was lost again while it cleaned up"
        return ended(_jobs_stopped(order, stamp), order.clean_up.state, reason, stamp)
    if order.state is OrderState.CANCELLING:
        return stopped(order, order.reason, stamp)
    reason = _why_not_again(order, record)
    if reason:
        return _failed(order, reason, stamp)
    return replace(_offered_anew(order), restarts=order.restarts + 1)


def given_up(order: Order, record: records.GivenUp, stamp: Stamp) -> Order | Refused:
    """It cannot be offered, or nobody took its clean-up; a second leader's record finds it ended."""
    if order.state not in {OrderState.QUEUED, OrderState.OFFERED}:
        return Refused(f"it is {order.state}, not offered")
    if order.clean_up is not None:
        return ended(order, order.clean_up.state, f"{order.clean_up.reason}; {record.reason}", stamp)
    return ended(order, OrderState.FAILED, record.reason, stamp)


def _why_not_again(order: Order, record: records.Lost) -> str:
    """Returns why the order fails; empty if another attempt can continue it."""
    for job in order.jobs:
        if job.state is JobState.RUNNING and not job.idempotent:
            return f"lost: {record.reason}, and task {job.name!r} must not run twice"
    return f"lost: its agent was gone {order.lost_in_row} times while it ran" if order.lost_in_row >= MOST_LOST else ""


def _offered_anew(order: Order) -> Order:
    is_bound = not order.pool or order.clean_up is not None
    return replace(queued(order), runner=order.runner if is_bound else order.subject)


def _with_loss(order: Order, record: records.Lost, stamp: Stamp) -> Order:
    loss = Loss(attempt=order.attempt, element=order.runner or "", at=stamp.time, reason=record.reason)
    return replace(order, lost_in_row=order.lost_in_row + 1, losses=(*order.losses, loss)[-KEPT:])


def _failed(order: Order, reason: str, stamp: Stamp) -> Order:
    """Returns the order at its end, except for its clean-up."""
    order = _jobs_stopped(order, stamp)
    if not order.cleans_up:
        return ended(order, OrderState.FAILED, reason, stamp)
    return replace(queued(order), ending=CleanUp(state=OrderState.FAILED, reason=reason, since=stamp.time))


def _jobs_stopped(order: Order, stamp: Stamp) -> Order:
    jobs = tuple(
        replace(job, state=JobState.FAILED, error="lost with its agent", finished_at=stamp.time)
        if job.state is JobState.RUNNING
        else job
        for job in order.jobs
    )
    return replace(order, jobs=jobs)
