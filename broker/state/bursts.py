"""`debounce`: of a burst of firings only the last one makes orders, once its lane has been quiet for a while."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import replace

from muster.broker.state.step import Step
from muster.broker.state.trigger_status import MOST_PENDING, OVERHEAD, Pending, TriggerStatus, lane_of
from muster.mesh import records
from muster.mesh.firing import Firing, FiringState
from muster.mesh.moment import rfc3339

if TYPE_CHECKING:
    from muster.broker.state.world import World

_NO_LANES: Final[Counter[str]] = Counter()


class Verdict(msgspec.Struct, frozen=True):
    """What becomes of a firing."""

    state: FiringState
    reason: str
    orders: tuple[records.Planned, ...] = ()
    """Those that it makes."""
    lanes: Counter[str] = _NO_LANES
    """How many of them there are in each lane."""


def verdict(world: World, record: records.Fired) -> Verdict:
    """Has a firing wait for its burst's end, unless too much is pending already."""
    pending, size = world.trigger_statuses.pending_bytes, OVERHEAD + memoryview(record.event).nbytes
    if pending + size > MOST_PENDING:
        reason = f"{pending} bytes of events are pending already; at most {MOST_PENDING} may be"
        return Verdict(FiringState.REJECTED, reason)
    return Verdict(FiringState.PENDING, "")


def joined(step: Step, record: records.Fired, firing: Firing) -> Firing:
    """Returns the firing that is pending from now on; its predecessor in the same burst is superseded.

    One whose time has come already is of another burst: only the leader is late with it.
    """
    status = step.world.trigger_statuses.of(lane_of(record.trigger, record.group))
    earlier, now = status.pending, firing.time
    last = earlier[-1] if earlier else None
    is_same = last is not None and (last.until > now or len(earlier) > 1)
    since = last.since if last is not None and is_same else now
    pending = Pending(
        id=firing.id,
        seq=firing.seq,
        time=now,
        version=firing.version,
        since=since,
        until=min(now + timedelta(seconds=record.quiet), since + timedelta(seconds=record.at_most)),
        by=firing.by,
        key=firing.key,
        group=firing.group,
        due=firing.due,
        depth=firing.depth,
        event=record.event,
    )
    if last is not None and is_same:
        earlier = earlier[:-1]
        _superseded(step, record.trigger, last, firing.id)
    keep(step, replace(status, pending=(*earlier, pending)))
    return firing_of(record.trigger, pending)


def settled(step: Step, record: records.Fired) -> Pending | None:
    """Returns the pending firing that a record settles; it is not pending any more."""
    lane = lane_of(record.trigger, record.group)
    status = step.world.trigger_statuses.get(lane)
    if status is None or not status.pending or status.pending[0].id != record.id:
        return None
    _put(step, replace(status, pending=status.pending[1:]))
    return status.pending[0]


def drop_pending(step: Step, trigger: str) -> None:
    """Rejects what was pending of a trigger that is gone."""
    for lane in step.world.trigger_statuses.lanes(trigger):
        for pending in step.world.trigger_statuses.of(lane).pending:
            reason = f"trigger {trigger} was deleted while it was pending"
            firing = replace(firing_of(trigger, pending), state=FiringState.REJECTED, until=None, reason=reason)
            step.changes.firings[firing.id] = firing
            step.changes.event("firing.rejected", firing.id, event_data(firing))


def firing_of(trigger: str, pending: Pending) -> Firing:
    """Returns a pending firing as it is listed."""
    return Firing(
        id=pending.id,
        trigger=trigger,
        version=pending.version,
        state=FiringState.PENDING,
        time=pending.time,
        reason=f"it makes its orders at {rfc3339(pending.until)}, unless another event of the burst comes before",
        key=pending.key,
        due=pending.due,
        until=pending.until,
        depth=pending.depth,
        group=pending.group,
        by=pending.by,
        event=pending.event,
        seq=pending.seq,
    )


def _superseded(step: Step, trigger: str, pending: Pending, by: str) -> None:
    firing = replace(
        firing_of(trigger, pending),
        state=FiringState.SUPERSEDED,
        until=None,
        superseded_by=by,
        reason=f"superseded by firing {by} of the same burst",
    )
    step.changes.firings[firing.id] = firing
    step.changes.event("firing.superseded", firing.id, event_data(firing))


def lane_in(record: records.Fired, planned: records.Planned) -> str:
    """Returns the lane of a firing's order, among those of its trigger."""
    return lane_of(record.trigger, record.group if planned.group is None else planned.group)


def keep(step: Step, status: TriggerStatus) -> None:
    """Keeps the state of a trigger or a lane."""
    step.world.trigger_statuses.put(status)
    step.changes.things["trigger", status.name] = status


def forget(step: Step, name: str) -> None:
    """Forgets a trigger or a lane: nothing needs to be known of it any more."""
    if step.world.trigger_statuses.drop(name):
        step.changes.things["trigger", name] = None


def forget_cooldowns(step: Step, trigger: str) -> None:
    """Forgets when the lanes of a trigger fired: it has no cooldown for each of them any more."""
    for lane in step.world.trigger_statuses.lanes(trigger):
        if lane != trigger:
            _put(step, replace(step.world.trigger_statuses.of(lane), last_fired=None))


def _put(step: Step, lane: TriggerStatus) -> None:
    """Keeps a lane, if anything is known of it."""
    if lane == TriggerStatus(name=lane.name):
        forget(step, lane.name)
    else:
        keep(step, lane)


def event_data(firing: Firing) -> dict[str, Any]:
    """Returns what the event of a firing says."""
    return {
        "trigger": firing.trigger,
        "state": firing.state,
        "reason": firing.reason,
        "orders": firing.orders,
        "chain": firing.depth + 1,
    }
