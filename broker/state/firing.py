"""What a firing does: it makes its orders, or says why there are none."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from muster.blueprints.definition import duration
from muster.blueprints.objects.trigger import Trigger
from muster.broker.state import bursts, lanes, orders
from muster.broker.state.bursts import Verdict, event_data, forget, keep, lane_in
from muster.broker.state.order import started
from muster.broker.state.step import Refused, Stamp, Step
from muster.broker.state.topics import REPLACE
from muster.broker.state.trigger_status import Pending
from muster.mesh import records
from muster.mesh.firing import Firing, FiringState
from muster.mesh.model import Order, OrderState

if TYPE_CHECKING:
    from muster.broker.state.world import World

MAX_CHAIN: Final = 8
"""The longest chain of firings that led to one; it stops a trigger that fires itself."""


def fired(step: Step, record: records.Fired) -> Refused | None:
    """Makes the orders of a firing.  What depends on the order of things (`max_open`, `cooldown`) is decided here."""
    world = step.world
    pending = None
    if record.settles:
        pending = bursts.settled(step, record)
        is_known = pending is None
    else:
        last = world.trigger_statuses.get(record.trigger)
        is_known = last is not None and last.last_firing == record.id
    if is_known or any(planned.id in world.orders for planned in record.orders):
        return Refused("this firing is on the record already, or it is not pending any more")
    trigger = world.objects.get("trigger", record.trigger)
    verdict = _verdict(world, record, trigger, step.stamp)
    firing = _firing(record, verdict, step.stamp) if pending is None else _settled(record, verdict, pending)
    if firing.state is FiringState.PENDING:
        firing = bursts.joined(step, record, firing)
    step.changes.firings[firing.id] = firing
    if isinstance(trigger, Trigger):  # otherwise it was deleted, and nothing is kept of it
        _note(step, trigger, firing, verdict)
    step.changes.event(_event_of(firing), firing.id, event_data(firing))
    if firing.state is FiringState.FIRED:
        _make_orders(step, record, trigger, verdict)
    return None


def _make_orders(step: Step, record: records.Fired, trigger: Any, verdict: Verdict) -> None:
    for planned in verdict.orders:
        orders.put(step, None, _order(record, planned, step.stamp))
    if isinstance(trigger, Trigger) and trigger.on_overlap == "replace" and trigger.max_open is not None:
        for lane in verdict.lanes:
            step.enqueue(REPLACE, lanes.of_trigger_lane(lane))


def _verdict(world: World, record: records.Fired, trigger: Any, stamp: Stamp) -> Verdict:
    if reason := _rejection(record, trigger):
        return Verdict(FiringState.REJECTED, reason)
    if record.quiet and not record.settles:
        return bursts.verdict(world, record)
    if not record.orders:
        return Verdict(FiringState.REJECTED, "it makes no orders")
    if record.starts_on or (trigger.cooldown is None and (trigger.max_open is None or trigger.on_overlap != "skip")):
        return _all_fired(record)
    return _held_back(world, record, trigger, stamp)


def _rejection(record: records.Fired, trigger: Any) -> str:
    """Why there can be no orders; empty if there can."""
    if record.depth > MAX_CHAIN:
        return f"{record.depth} firings have caused one another; the chain ends here"
    if record.rejected or record.starts_on:  # an order that starts with its record already runs
        return record.rejected
    if isinstance(trigger, Trigger) and trigger.enabled:
        return ""
    return f"trigger {record.trigger} was {'disabled' if isinstance(trigger, Trigger) else 'deleted'} just now"


def _all_fired(record: records.Fired) -> Verdict:
    return Verdict(FiringState.FIRED, "", record.orders, Counter(lane_in(record, planned) for planned in record.orders))


def _held_back(world: World, record: records.Fired, trigger: Trigger, stamp: Stamp) -> Verdict:
    """Without the orders that the trigger itself does not want now, lane by lane."""
    lanes = Counter(lane_in(record, planned) for planned in record.orders)
    reasons = {lane: reason for lane in lanes if (reason := _why_not(world, lane, trigger, stamp))}
    if not reasons:
        return Verdict(FiringState.FIRED, "", record.orders, lanes)
    reason = next(iter(reasons.values()))
    kept = tuple(planned for planned in record.orders if lane_in(record, planned) not in reasons)
    if not kept:
        return Verdict(FiringState.SKIPPED, reason)
    text = f"{len(record.orders) - len(kept)} of {len(record.orders)} orders were skipped: {reason}"
    return Verdict(FiringState.FIRED, text, kept, Counter({lane: lanes[lane] for lane in lanes if lane not in reasons}))


def _why_not(world: World, lane: str, trigger: Trigger, stamp: Stamp) -> str:
    """Why the trigger itself wants no orders in a lane now."""
    status = world.trigger_statuses.get(lane)
    if trigger.cooldown is not None and status is not None and status.last_fired is not None:
        since, span = stamp.time - status.last_fired, _span(trigger.cooldown)
        if timedelta(0) <= since < span:  # it may lie ahead: the server's clock was set back
            return f"cooldown: it fired less than {trigger.cooldown} ago"
    if trigger.max_open is not None and trigger.on_overlap == "skip":
        count = len(world.lanes.open(lanes.of_trigger_lane(lane)))
        if count >= trigger.max_open:
            return f"overlap: {count} of its orders are open"
    return ""


def _span(text: str) -> timedelta:
    try:
        return duration(text)
    except ValueError:  # it was checked when it was applied
        return timedelta(0)


def _firing(record: records.Fired, verdict: Verdict, stamp: Stamp) -> Firing:
    return Firing(
        id=record.id,
        trigger=record.trigger,
        version=record.version,
        state=verdict.state,
        time=stamp.time,
        reason=verdict.reason,
        key=record.key,
        due=record.due,
        depth=record.depth,
        group=record.group,
        by=str(record.by),
        event=record.event,
        orders=tuple(planned.id for planned in verdict.orders),
        seq=stamp.seq,
    )


def _settled(record: records.Fired, verdict: Verdict, pending: Pending) -> Firing:
    """The firing that was pending, with what came of it in the end."""
    return replace(
        bursts.firing_of(record.trigger, pending),
        version=record.version,
        state=verdict.state,
        until=None,
        reason=verdict.reason,
        orders=tuple(planned.id for planned in verdict.orders),
    )


def _note(step: Step, trigger: Trigger, firing: Firing, verdict: Verdict) -> None:
    """Notes when the trigger, and each of its lanes, fired."""
    trigger_statuses = step.world.trigger_statuses
    status = trigger_statuses.of(firing.trigger)
    due = firing.due
    if due is None or (status.last_due is not None and status.last_due > due):
        due = status.last_due
    is_fired, now = firing.state is FiringState.FIRED, step.stamp.time
    last_fired = now if is_fired else status.last_fired
    keep(step, replace(status, last_due=due, last_fired=last_fired, last_firing=firing.id))
    if trigger.cooldown is None or trigger.key is None:
        return
    for lane in verdict.lanes if is_fired else ():
        if lane != firing.trigger:
            keep(step, replace(trigger_statuses.of(lane), last_fired=now))
    for lane in trigger_statuses.cooled(firing.trigger, _span(trigger.cooldown), now):
        forget(step, lane)


def _order(record: records.Fired, planned: records.Planned, stamp: Stamp) -> Order:
    """Returns a new order: queued until a rule releases it, or running if its record starts it."""
    order = Order(
        id=planned.id,
        blueprint=record.blueprint,
        version=record.blueprint_version,
        digest=record.digest,
        subject=planned.element,
        runner=planned.element,
        element=planned.element,
        pool=planned.pool,
        where=planned.where,
        state=OrderState.QUEUED,
        inputs=record.inputs if planned.inputs is None else planned.inputs,
        sources=record.sources if planned.sources is None else planned.sources,
        created_by=f"trigger {record.trigger}",
        created_at=stamp.time,
        labels=record.labels,
        trigger=record.trigger,
        firing=record.id,
        chain=record.depth + 1,
        has_on_failure=record.has_on_failure,
        has_always=record.has_always,
        group=record.group if planned.group is None else planned.group,
        rev=stamp.seq if planned.id == record.about else 0,
    )
    return started(order, record.start, stamp) if record.start is not None and record.starts_on else order


def _event_of(firing: Firing) -> str:
    return "firing.stopped" if firing.depth > MAX_CHAIN else f"firing.{firing.state}"
