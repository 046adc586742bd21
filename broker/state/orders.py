"""Orders: what each record does to one, and the rules by which they are released, continue and end."""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final, TypeVar

from msgspec.structs import replace

from muster.broker.state import loss, order
from muster.broker.state.aggregate import Aggregate
from muster.broker.state.lanes import owner_of
from muster.broker.state.order import as_child, due_at, has_its_children, is_held, queued, reunited, stopped
from muster.broker.state.step import Refused, Stamp, Step
from muster.broker.state.table import TABLE
from muster.broker.state.topics import ENDED, LANE, QUEUE, REPLACE, SUBJECT, SUCCEEDED
from muster.broker.state.waiting import code_of, hindrance
from muster.mesh import records
from muster.mesh.caller import Caller, CallerKind
from muster.mesh.model import JobState, Order, OrderState

if TYPE_CHECKING:
    from muster.broker.state.world import World

T = TypeVar("T")

_WELL_ENDED: Final = frozenset({JobState.FINISHED, JobState.SKIPPED})


# -- records --------------------------------------------------------------------------------------


def retried(record: records.Retried, _stamp: Stamp) -> Order | Refused:
    """Has an ended order continue at its first unfinished task.

    Jobs are in the order in which they ran.  Jobs after the first failed one (`on_failure` and `always` of the failed
    run) can run again.
    """
    ended = record.snapshot
    if ended.id != record.order or ended.state not in {OrderState.FAILED, OrderState.CANCELLED}:
        return Refused(f"only a failed or cancelled order can be retried; it is {ended.state}")
    return queued(
        replace(
            ended,
            finished_at=None,
            outputs={},
            jobs=tuple(takewhile(lambda job: job.state in _WELL_ENDED, ended.jobs)),
            runner=ended.subject if ended.pool else ended.runner,
            cleans_up=False,
            ending=None,
            restarts=ended.restarts + 1,
            lost_in_row=0,
        )
    )


TRANSITIONS: Final[dict[type[records.OrderRecord], Callable[[Order, Any, Stamp], Order | Refused]]] = {
    records.Due: order.due,
    records.Claimed: order.claimed,
    records.Reported: order.reported,
    records.Suspended: order.suspended,
    records.Done: order.done,
    records.Lost: loss.lost,
    records.GivenUp: loss.given_up,
    records.CancelRequested: order.cancel_requested,
}
"""What may happen to an open order."""

BEGINNINGS: Final[dict[type[records.OrderRecord], Callable[[Any, Stamp], Order | Refused]]] = {
    records.Created: order.created,
    records.Retried: retried,
}
"""What makes an order open."""

_EVENTS: Final[dict[type[records.Record], str]] = {records.Lost: "order.lost", records.Retried: "order.retried"}
"""Events beside that of the state that a record leads to."""


def record_applied(step: Step, record: records.OrderRecord) -> Refused | None:
    """Does what a record about an order says."""
    before = step.world.orders.get(record.order)
    after = _next(before, record, step)
    if isinstance(after, Refused):
        if isinstance(record, records.Claimed) and (before is None or before.agent != record.agent):
            step.changes.unclaimed.append((record.order, record.element))
        return after
    if (jobs := getattr(record, "jobs", ())) and before is not None:
        step.changes.job_events(jobs, before)
    put(step, before, replace(after, rev=step.stamp.seq))
    if before is not None and isinstance(record, records.Due):
        _cancel_awaited(step, before)
    if (event := _EVENTS.get(type(record))) is not None:
        step.changes.also(event, after)
    return None


def _next(before: Order | None, record: records.OrderRecord, step: Step) -> Order | Refused:
    transition = TRANSITIONS.get(type(record))
    if transition is None:
        if before is not None:
            return Refused("there is such an order already, and it is open")
        return BEGINNINGS[type(record)](record, step.stamp)
    if before is None:
        return Refused("there is no such open order")
    if isinstance(record, records.Claimed) and (reason := _why_not_claimed(before, record, step.world)):
        return Refused(reason)
    after = transition(before, record, step.stamp)
    if isinstance(after, Order) and not is_legal(before, after):
        return Refused(f"an order that is {before.state} does not become {after.state}")
    return after


def _why_not_claimed(found: Order, record: records.Claimed, world: World) -> str:
    """Why a pool's order is not for who claims it; empty if it is.

    The compare-and-set accepts a claim from anybody who writes one.  An agent that was silent for a while counts as
    it was: it claims what was offered to it, and would run that until it hears of a refusal.
    """
    if found.runner is not None or found.pool is None:
        return ""  # the target is checked with the rest
    element = world.elements.get(record.element)
    if element is None or not world.fleet.may_serve(found.pool, record.element):
        return f"{record.element} is not in pool {found.pool}"
    return "" if record.agent in {element.agent, element.last} else f"its agent does not act for {record.element}"


def _cancel_awaited(step: Step, parent: Order) -> None:
    """The time is up until which a suspended task waited for children: those that are open are cancelled."""
    for child in getattr(parent.waiting, "ids", ()):
        if child in parent.children:  # an agent must not cancel somebody else's
            cancel(step, child, Caller(kind=CallerKind.ORDER, name=parent.id))


def cancel(step: Step, ident: str, by: Caller) -> None:
    """Stops an order by a record that is not about it."""
    before = step.world.orders.get(ident)
    if before is None:
        return
    after = order.cancel_requested(before, records.CancelRequested(order=ident, by=by), step.stamp)
    if isinstance(after, Refused):
        return
    put(step, before, after)
    if after.is_final:
        step.changes.revoked[ident] = by


# -- where an order is put ------------------------------------------------------------------------


def is_legal(before: Order, after: Order) -> bool:
    """Whether the table of states has this way."""
    return after.state is before.state or after.state in TABLE[before.state].leads_to


def put(step: Step, before: Order | None, after: Order) -> None:
    """Stores an order, enqueues everything that depends on it, and reports it."""
    if before is None and after.children:
        after = reunited(after, step.world.orders)
    element = after.subject or after.runner
    if after.element != element:
        after = replace(after, element=element)
    for lane in keep(step.world, before, after):
        step.enqueue(LANE, lane)
    step.changes.orders[after.id] = after
    _use_queue(step, before, after)
    if before is None or after.state in _HAVE_RULES:
        step.enqueue_order(after.id)
    if before is not None and before.state is after.state:
        return
    step.changes.moved(before, after)
    if after.parent is not None:
        _update_parent(step, after)
    if after.is_final:
        step.enqueue(ENDED, after.id)


_HAVE_RULES: Final = frozenset(state for state, row in TABLE.items() if row.has_rules)


def keep(world: World, before: Order | None, after: Order) -> list[str]:
    """Updates all indexes over orders; returns the lanes to process."""
    if after.is_final:
        world.orders.pop(after.id, None)
    else:
        world.orders[after.id] = after
    if before is not None and _is_indexed_alike(before, after):
        return []
    world.held.move(before, after)
    if after.waiting is not None or world.timers:
        _index(world.timers, after.id, due_at(after))
    if after.ending is not None or world.clean_ups:
        due = after.clean_up if after.state in {OrderState.QUEUED, OrderState.OFFERED} else None
        _index(world.clean_ups, after.id, due.since if due is not None else None)
    return world.lanes.move(before, after) if after.trigger is not None else []


def _is_indexed_alike(before: Order, after: Order) -> bool:
    """Returns whether no index must change, because their keys are unchanged."""
    return (
        before.state is after.state
        and before.runner is after.runner
        and before.waiting is after.waiting
        and before.ending is after.ending
    )


def _index(index: dict[str, T], ident: str, value: T | None) -> None:
    if value is not None:
        index[ident] = value
    elif index:
        index.pop(ident, None)


def _use_queue(step: Step, before: Order | None, after: Order) -> None:
    """An open order needs the pool that its filter defines."""
    if after.where is None or after.pool is None:
        return
    is_news = False
    if before is None and not after.is_final:
        is_news = step.world.pools.use(after.pool, after.where)
    elif before is not None and after.is_final:
        is_news = step.world.pools.leave(after.pool)
    if is_news:
        step.enqueue(QUEUE, after.pool)


def _update_parent(step: Step, child: Order) -> None:
    parent = step.world.orders.get(child.parent or "")
    if parent is not None:
        put(step, parent, replace(parent, children={**parent.children, child.id: as_child(child)}))


# -- rules ----------------------------------------------------------------------------------------


def settle(step: Step, ident: str) -> None:
    """Releases an order, lets it continue, or ends it, if nothing is in its way any more."""
    before = step.world.orders.get(ident)
    if before is None:
        return
    if before.start is not None and _is_succeeded(before, step.world):
        _give_up(step, before, ran=False)
        return
    after = before
    if before.state is OrderState.QUEUED:
        after = released(before, step.world)
    elif has_its_children(before):
        is_stopping = before.state is OrderState.CANCELLING
        after = stopped(before, before.reason, step.stamp) if is_stopping else queued(before)
    if after is not before and is_legal(before, after):
        put(step, before, after)


def _is_succeeded(found: Order, world: World) -> bool:
    """Whether the daemon that its first record names is dead: another one has taken its place since."""
    element = world.elements.get(found.runner or "")
    return element is not None and element.succeeds is not None and element.succeeds == found.agent and is_held(found)


def give_up_of_predecessors(step: Step, name: str) -> None:
    """Gives up what the daemons before an element's agent held in its place.

    Only one can run there, so those before it are dead, and nothing runs what they held.  Of a daemon elsewhere nobody
    knows that: what it holds is given up when its leases have surely expired.
    """
    element, orders = step.world.elements.get(name), step.world.orders
    held = [orders[ident] for ident in step.world.held.by(name)]
    for before in sorted(held, key=_age):  # a world that was loaded holds them in another order
        if element is not None and before.agent != element.agent:
            _give_up(step, before)


def _give_up(step: Step, before: Order, *, ran: bool = True) -> None:
    reason = f"the agent on {before.runner} was started anew"
    lost = records.Lost(order=before.id, attempt=before.attempt, reason=reason, ran=ran)
    after = loss.lost(before, lost, step.stamp)
    if isinstance(after, Order):
        put(step, before, after)
        step.changes.also("order.lost", after)


def released(found: Order, world: World) -> Order:
    """Returns a queued order with its reason to wait, or offered."""
    waiting = hindrance(found, world)
    if waiting is not None:
        is_known = found.waiting == waiting and found.reason == code_of(waiting)
        return found if is_known else replace(found, waiting=waiting, reason=code_of(waiting))
    reason = found.clean_up.reason if found.clean_up is not None else ""
    return replace(found, state=OrderState.OFFERED, waiting=None, reason=reason)


def lane_has_place(step: Step, lane: str) -> None:
    """Enqueues the orders that a lane can admit now."""
    for ident in step.world.lanes.next_in(lane):
        step.enqueue_order(ident)


def replace_oldest(step: Step, lane: str) -> None:
    """Cancels a lane's oldest orders, as many as are too many; those that are being cancelled end already."""
    world, rule = step.world, step.world.lanes.rules.get(owner_of(lane))
    if rule is None:
        return
    others = [world.orders[ident] for ident in world.lanes.open(lane)]
    continuing = [found for found in others if found.state is not OrderState.CANCELLING and found.clean_up is None]
    surplus = max(0, len(continuing) - rule.limit)
    caller = Caller(kind=CallerKind.TRIGGER, name=owner_of(lane).partition("/")[2])
    older = sorted((found for found in continuing if found.firing not in step.changes.firings), key=_age)
    for found in older[:surplus]:
        cancel(step, found.id, caller)


def _age(found: Order) -> tuple[Any, str]:
    return found.created_at, found.id


def subject_moved(step: Step, ident: str) -> None:
    """Anything on an order's subjects moves what a claim is compared with, even if it was refused."""
    found = step.world.orders.get(ident)
    if found is not None:
        after = replace(found, rev=step.stamp.seq)
        keep(step.world, found, after)
        step.changes.orders[ident] = after


AGGREGATE: Final = Aggregate(
    name="orders",
    handlers=dict.fromkeys((*TRANSITIONS, *BEGINNINGS), record_applied),
    rules={
        "order": settle,
        LANE: lane_has_place,
        REPLACE: replace_oldest,
        SUBJECT: subject_moved,
        SUCCEEDED: give_up_of_predecessors,
    },
)
