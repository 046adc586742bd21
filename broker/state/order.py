"""What each record does to one order: a pure function a record type, looked up by type.

`def claimed(order, record, stamp) -> Order | Refused`.  The first check of an agent's record is
always the attempt: an agent that lost its lease may still be talking (fencing).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from msgspec.structs import replace

from muster.broker.state.step import Refused, Stamp
from muster.mesh import records
from muster.mesh.model import (
    FINAL_JOB_STATES,
    FINAL_STATES,
    Cancel,
    Child,
    CleanUp,
    Direct,
    Job,
    Order,
    OrderState,
    Runner,
)
from muster.mesh.waiting import Children, Schedule, Until, Waiting


def created(record: records.Created, stamp: Stamp) -> Order:
    """Returns a new order: queued until a rule releases it, or running if its record starts it."""
    order = Order(
        id=record.order,
        blueprint=record.blueprint,
        version=record.version,
        digest=record.digest,
        subject=record.element,
        runner=record.element,
        element=record.element,
        pool=record.pool,
        state=OrderState.QUEUED,
        waiting=Schedule(at=record.not_before) if record.not_before is not None else None,
        inputs=record.inputs,
        sources=record.sources,
        created_by=str(record.by),
        created_at=stamp.time,
        not_before=record.not_before,
        labels=record.labels,
        parent=record.parent,
        depth=record.depth,
        chain=record.chain,
        where=record.where,
        has_on_failure=record.has_on_failure,
        has_always=record.has_always,
    )
    return order if record.start is None else started(order, record.start, stamp)


def started(order: Order, start: Direct, stamp: Stamp) -> Order:
    """Returns an order whose first record is its claim as well: its agent runs it in any case."""
    return replace(
        order,
        state=OrderState.RUNNING,
        start=start,
        attempt=order.attempt + 1,
        agent=start.agent,
        started_at=stamp.time,
        runners=with_runner(order, order.runner or "", order.attempt + 1),
        cleans_up=order.has_on_failure or order.has_always,
    )


def with_runner(order: Order, element: str, attempt: int) -> tuple[Runner, ...]:
    """The elements that have run it, with one that does from now on."""
    if order.runners and order.runners[-1].element == element:
        return order.runners
    return (*order.runners, Runner(attempt=attempt, element=element))


def runs_directly(order: Order) -> bool:
    """Returns whether it runs without an offer: it has no message in the work stream."""
    return order.start is not None and is_held(order)


def due(order: Order, _record: records.Due, _stamp: Stamp) -> Order | Refused:
    """Its time has come; a second Due (two leaders for a moment) finds nothing to do."""
    if due_at(order) is None:
        return Refused("it does not wait for a time")
    return queued(order)


def claimed(order: Order, record: records.Claimed, stamp: Stamp) -> Order | Refused:
    """An element takes it.  Closes the race of two members of a pool, and of a claim with a cancel."""
    if order.state is not OrderState.OFFERED:
        return Refused(f"it is {order.state}, not offered")
    if record.attempt != order.attempt + 1:
        return Refused(f"attempt {record.attempt} is not the next one")
    if order.runner is not None and order.runner != record.element:
        return Refused(f"it is for {order.runner}, not for {record.element}")
    is_stopping = order.clean_up is not None and order.clean_up.state is OrderState.CANCELLED
    return replace(
        order,
        state=OrderState.CANCELLING if is_stopping else OrderState.RUNNING,
        reason=order.clean_up.reason if order.clean_up is not None else "",
        runner=record.element,
        start=None,
        attempt=record.attempt,
        agent=record.agent,
        runners=with_runner(order, record.element, record.attempt),
        cleans_up=order.cleans_up or order.has_on_failure or order.has_always,
        started_at=order.started_at or stamp.time,
        inputs=order.inputs if record.inputs is None else record.inputs,
        sources=order.sources if record.sources is None else record.sources,
    )


def reported(order: Order, record: records.Reported, stamp: Stamp) -> Order | Refused:
    """Jobs started or ended."""
    if refused := _not_the_runner(order, record.attempt, stamp):
        return refused
    jobs = with_jobs(order.jobs, record.jobs)
    if isinstance(jobs, Refused):
        return jobs
    has_progress = order.lost_in_row and any(job.state in FINAL_JOB_STATES for job in jobs if job not in order.jobs)
    return replace(order, jobs=jobs, lost_in_row=0 if has_progress else order.lost_in_row)


def suspended(order: Order, record: records.Suspended, stamp: Stamp) -> Order | Refused:
    """Suspends the order, unless it must stop meanwhile."""
    if refused := _not_the_runner(order, record.attempt, stamp):
        return refused
    jobs = with_jobs(order.jobs, record.jobs)
    if isinstance(jobs, Refused):
        return jobs
    order = replace(
        order,
        jobs=jobs,
        has_always=order.has_always or record.cleans_up,
        cleans_up=order.cleans_up or record.cleans_up,
        lost_in_row=0,
    )
    if order.state is OrderState.CANCELLING:
        return stopped(order, order.reason, stamp)
    if record.children:
        waiting: Waiting | None = Children(ids=record.orders, at=record.until, why=record.why)
    else:
        waiting = Until(at=record.until, why=record.why) if record.until is not None else None
    if waiting is None:
        return Refused("it does not say what ends its wait")
    return replace(order, state=OrderState.SUSPENDED, start=None, waiting=waiting, reason=_waiting_words(record))


def done(order: Order, record: records.Done, stamp: Stamp) -> Order | Refused:
    """The attempt ended the order."""
    if refused := _not_the_runner(order, record.attempt, stamp):
        return refused
    if record.state not in FINAL_STATES:
        return Refused(f"{record.state} is not a final state")
    jobs = with_jobs(order.jobs, record.jobs)
    if isinstance(jobs, Refused):
        return jobs
    failing = order.clean_up if order.clean_up is not None and order.clean_up.state is OrderState.FAILED else None
    state = record.state if failing is None else OrderState.FAILED
    if state is OrderState.CANCELLED and order.state is not OrderState.CANCELLING:
        return Refused("nobody asked to cancel it")
    known = order.reason if failing is None and state is OrderState.CANCELLED else ""  # the broker knows the caller
    reason = record.reason or (failing.reason if failing is not None else known)
    order = replace(order, jobs=jobs, outputs=record.outputs, cleans_up=False)
    return stopped(order, reason, stamp) if state is OrderState.CANCELLED else ended(order, state, reason, stamp)


def cancel_requested(order: Order, record: records.CancelRequested, stamp: Stamp) -> Order | Refused:
    """Stops it at once if nobody runs it; otherwise its agent is notified, and answers with Done."""
    reason = f"cancelled by {record.by}"
    if order.state is OrderState.CANCELLING:
        return Refused("it is being cancelled already")
    if order.state is OrderState.RUNNING:
        return replace(
            order, state=OrderState.CANCELLING, reason=reason, ending=order.ending or Cancel(by=str(record.by))
        )
    if order.clean_up is not None and order.clean_up.state is OrderState.FAILED:
        return ended(order, OrderState.FAILED, f"{order.clean_up.reason}; its clean-up was {reason}", stamp)
    return stopped(order, reason, stamp)


def stopped(order: Order, reason: str, stamp: Stamp) -> Order:
    """Nobody runs an order that is to end: its children end first, then it is offered for `always`, then it ends.

    Who asks once more, while it waits to be claimed, does not want to wait for that.
    """
    if not children_have_ended(order):
        return replace(queued(order), state=OrderState.CANCELLING, waiting=Children(), reason=reason)
    if order.cleans_up and order.has_always and order.clean_up is None:
        due_still = CleanUp(state=OrderState.CANCELLED, reason=reason, since=stamp.time)
        return replace(queued(order), ending=due_still)
    return ended(order, OrderState.CANCELLED, reason, stamp)


def is_held(order: Order) -> bool:
    """Whether an agent runs it; a cancelling order that nobody ran waits only for its children."""
    return order.state is OrderState.RUNNING or (order.state is OrderState.CANCELLING and order.waiting is None)


def due_at(order: Order) -> datetime | None:
    """Returns the time at which a Due record releases it; None if it does not wait for a time."""
    waiting = order.waiting
    if order.state is OrderState.QUEUED:
        return waiting.at if isinstance(waiting, Schedule) else None
    is_suspended = order.state is OrderState.SUSPENDED and isinstance(waiting, Until | Children)
    return waiting.at if is_suspended and isinstance(waiting, Until | Children) else None


def queued(order: Order) -> Order:
    """Returns it back in the queue, where it waits for nothing of its own any more."""
    return replace(order, state=OrderState.QUEUED, reason="", waiting=None, start=None)


def ended(order: Order, state: OrderState, reason: str, stamp: Stamp) -> Order:
    """Returns it at its end."""
    return replace(order, state=state, reason=reason, finished_at=stamp.time, waiting=None, start=None)


def as_child(order: Order) -> Child:
    """What its parent knows of an order."""
    return Child(state=order.state, reason=order.reason, outputs=order.outputs)


def reunited(order: Order, open_orders: Mapping[str, Order]) -> Order:
    """Updates the children of a retried order, which had ended.

    Its snapshot contains how children ended before it; a child that ended after it counts as failed.
    """
    children = dict(order.children)
    for ident, child in order.children.items():
        if (current := open_orders.get(ident)) is not None:
            children[ident] = as_child(current)
        elif child.state not in FINAL_STATES:
            children[ident] = Child(state=OrderState.FAILED, reason="it ended after its parent")
    return replace(order, children=children)


def children_have_ended(order: Order) -> bool:
    """Whether no child order is open any more."""
    return all(child.state in FINAL_STATES for child in order.children.values())


def origin(order: Order) -> dict[str, Any]:
    """Which firing an order comes of, for its events; a child order knows only how many there were."""
    if order.trigger is None:
        return {"chain": order.chain}
    return {"trigger": order.trigger, "firing": order.firing, "chain": order.chain}


def has_its_children(order: Order) -> bool:
    """Whether it waits for children that have all ended: those that it names, or all that it has."""
    if not isinstance(order.waiting, Children):
        return False
    known = order.children
    return all(known[child].state in FINAL_STATES for child in order.waiting.ids or known if child in known)


def with_jobs(known: tuple[Job, ...], news: tuple[Job, ...]) -> tuple[Job, ...] | Refused:
    """The jobs with the reported ones put in; an ended job never changes again."""
    if not known:
        return news
    jobs = {job.name: job for job in known}
    for job in news:
        before = jobs.get(job.name)
        if before is not None and before.state in FINAL_JOB_STATES and job != before:
            return Refused(f"job {job.name!r} has ended already")
        jobs[job.name] = job
    return tuple(jobs.values())


def _not_the_runner(order: Order, attempt: int, stamp: Stamp) -> Refused | None:
    if attempt != order.attempt:
        return Refused(f"attempt {attempt} has ended; the order is at attempt {order.attempt}")
    if not is_held(order):
        return Refused(f"it is {order.state}, not running")
    if stamp.actor != order.runner:
        return Refused(f"{stamp.actor} does not hold it")
    return None


def _waiting_words(record: records.Suspended) -> str:
    if record.children:
        return "waits for its child orders"
    time = f" until {record.until:%Y-%m-%dT%H:%M:%SZ}" if record.until else ""
    return f"waits{time} {record.why}".rstrip()
