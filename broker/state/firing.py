"""What a firing does: it makes its orders, or says why there are none."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from muster.blueprints.definition import duration
from muster.blueprints.objects.trigger import Trigger
from muster.broker.state.order import Refused, Stamp
from muster.broker.state.standing import Standing
from muster.mesh import records
from muster.mesh.firing import Firing, FiringState
from muster.mesh.model import Order, OrderState

if TYPE_CHECKING:
    from muster.broker.state.changes import Changes
    from muster.broker.state.machine import State

MAX_CHAIN: Final = 8
"""Firings that may stand above one; a trigger that sets itself off ends here."""

Verdict = tuple[FiringState, str]


def fired(state: State, record: records.Fired, changes: Changes) -> None:
    """A trigger went off.  What depends on the order of things (`max_open`, `cooldown`) is decided here."""
    standing = state.triggers.standing.get(record.trigger) or Standing(name=record.trigger)
    if standing.last_firing == record.id or any(planned.id in state.orders for planned in record.orders):
        changes.refused = Refused("this firing is on the record already")
        state.touch(changes, record.about)
        return
    trigger = state.fleet.get("trigger", record.trigger)
    outcome, reason = _verdict(state, record, trigger, standing, changes.stamp)
    firing = Firing(
        id=record.id,
        trigger=record.trigger,
        version=record.version,
        state=outcome,
        time=changes.stamp.time,
        reason=reason,
        key=record.key,
        due=record.due,
        depth=record.depth,
        by=record.by,
        event=record.event,
        orders=tuple(planned.id for planned in record.orders) if outcome is FiringState.FIRED else (),
    )
    changes.firings[firing.id] = firing
    if isinstance(trigger, Trigger):  # else it was deleted, and what is not there does not stand
        _stand(state, standing, firing, changes)
    changes.event(_event_of(firing), firing.id, _told(firing))
    if outcome is FiringState.FIRED:
        if isinstance(trigger, Trigger) and trigger.on_overlap == "replace" and trigger.max_open is not None:
            _make_room(state, trigger, len(record.orders), changes)
        for planned in record.orders:
            state.change(None, _order(record, planned, changes.stamp), changes)
        if record.agent and record.begins_on:
            state.begin(record.about, record.agent, changes)


def foreseen(state: State, record: records.Fired, stamp: Stamp) -> Order | None:
    """The one order that the record will make if it comes next and nothing but the state before it counts."""
    trigger = state.fleet.get("trigger", record.trigger)
    if len(record.orders) != 1 or not isinstance(trigger, Trigger):
        return None
    if (
        trigger.cooldown is not None or trigger.on_overlap == "replace"
    ):  # the one asks the record's time, the other does more
        return None
    standing = state.triggers.standing.get(record.trigger) or Standing(name=record.trigger)
    if _verdict(state, record, trigger, standing, stamp)[0] is not FiringState.FIRED:
        return None
    return _order(record, record.orders[0], stamp)


def announced(_state: State, record: records.Announced, changes: Changes) -> None:
    """Somebody told of something: an event, for whoever listens."""
    changes.event("inbox.event", record.name, {"name": record.name, "body": record.body})


def _verdict(state: State, record: records.Fired, trigger: Any, standing: Standing, stamp: Stamp) -> Verdict:
    if record.depth > MAX_CHAIN:
        reason = f"{record.depth} firings stand above one another, each having caused the next; that is where it stops"
        return FiringState.REJECTED, reason
    if record.rejected:
        return FiringState.REJECTED, record.rejected
    if record.begins_on:
        return FiringState.FIRED, ""  # its order runs
    if not isinstance(trigger, Trigger) or not trigger.enabled:
        what = "disabled" if isinstance(trigger, Trigger) else "deleted"
        return FiringState.REJECTED, f"trigger {record.trigger} was {what} just now"
    if not record.orders:
        return FiringState.REJECTED, "it makes no orders"
    reason = _held_back(state, trigger, standing, stamp)
    return (FiringState.SKIPPED, reason) if reason else (FiringState.FIRED, "")


def _held_back(state: State, trigger: Trigger, standing: Standing, stamp: Stamp) -> str:
    """Why the trigger itself wants no orders now."""
    if trigger.cooldown is not None and standing.last_fired is not None:
        since, span = stamp.time - standing.last_fired, _span(trigger.cooldown)
        if timedelta(0) <= since < span:  # it may lie ahead: the server's clock was set back
            return f"cooldown: it went off less than {trigger.cooldown} ago"
    if trigger.max_open is not None and trigger.on_overlap == "skip":
        count = state.triggers.count(trigger.name)
        if count >= trigger.max_open:
            return f"overlap: {count} of its orders are open"
    return ""


def _span(text: str) -> timedelta:
    try:
        return duration(text)
    except ValueError:  # it was checked when it was applied
        return timedelta(0)


def _stand(state: State, standing: Standing, firing: Firing, changes: Changes) -> None:
    due = firing.due
    if due is None or (standing.last_due is not None and standing.last_due > due):
        due = standing.last_due
    made = firing.time if firing.state is FiringState.FIRED else standing.last_fired
    after = replace(standing, last_due=due, last_fired=made, last_firing=firing.id)
    state.triggers.standing[firing.trigger] = changes.standings[firing.trigger] = after


def _make_room(state: State, trigger: Trigger, wanted: int, changes: Changes) -> None:
    """Cancel the trigger's oldest orders, as many as have to go; those being cancelled are going already."""
    open_orders = [state.orders[ident] for ident in state.triggers.open(trigger.name)]
    going_on = [order for order in open_orders if _is_going_on(order)]
    going_on.sort(key=lambda order: (order.created_at, order.id))
    surplus = max(0, len(going_on) + wanted - (trigger.max_open or 0))
    for order in going_on[:surplus]:
        state.cancel(order.id, f"trigger {trigger.name}", changes)


def _is_going_on(order: Order) -> bool:
    return order.state is not OrderState.CANCELLING and not order.cancelled and not order.failing


def _order(record: records.Fired, planned: records.Planned, stamp: Stamp) -> Order:
    """A new order, queued until the machine settles where it goes."""
    return Order(
        id=planned.id,
        blueprint=record.blueprint,
        version=record.blueprint_version,
        digest=record.digest,
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
        rev=stamp.seq if planned.id == record.about else 0,
    )


def _event_of(firing: Firing) -> str:
    return "firing.stopped" if firing.depth > MAX_CHAIN else f"firing.{firing.state}"


def _told(firing: Firing) -> dict[str, Any]:
    return {
        "trigger": firing.trigger,
        "state": firing.state,
        "reason": firing.reason,
        "orders": firing.orders,
        "chain": firing.depth + 1,
    }
