"""`debounce`: of a burst of firings only the last one makes orders, once its lane has been quiet for a while."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import replace

from muster.broker.state.standing import MOST_PENDING, OVERHEAD, Pending, Standing, lane_of
from muster.mesh import records
from muster.mesh.firing import Firing, FiringState
from muster.mesh.moment import rfc3339

if TYPE_CHECKING:
    from muster.broker.state.changes import Changes
    from muster.broker.state.machine import State

_NO_LANES: Final[Counter[str]] = Counter()


class Verdict(msgspec.Struct, frozen=True):
    """What becomes of a firing."""

    state: FiringState
    reason: str
    orders: tuple[records.Planned, ...] = ()
    """Those that it makes."""
    lanes: Counter[str] = _NO_LANES
    """How many of them there are in each lane."""


def verdict(state: State, record: records.Fired) -> Verdict:
    """It has to wait for its burst's end; unless too much waits already."""
    pending, size = state.triggers.standings.pending_bytes, OVERHEAD + memoryview(record.event).nbytes
    if pending + size > MOST_PENDING:
        reason = f"{pending} bytes of events are pending already; at most {MOST_PENDING} may be"
        return Verdict(FiringState.REJECTED, reason)
    return Verdict(FiringState.PENDING, "")


def joined(state: State, record: records.Fired, firing: Firing, changes: Changes) -> Firing:
    """The firing that is pending from now on; the one that was before it in the same burst is superseded.

    One whose time has come already is of another burst: only the leader is late with it.
    """
    standing = state.triggers.standings.of(lane_of(record.trigger, record.group))
    earlier, now = standing.pending, firing.time
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
        _superseded(record.trigger, last, firing.id, changes)
    keep(state, replace(standing, pending=(*earlier, pending)), changes)
    return firing_of(record.trigger, pending)


def taken(state: State, record: records.Fired, changes: Changes) -> Pending | None:
    """The pending firing that a record settles; it is not pending any more."""
    lane = lane_of(record.trigger, record.group)
    standing = state.triggers.standings.get(lane)
    if standing is None or not standing.pending or standing.pending[0].id != record.id:
        return None
    _put(state, replace(standing, pending=standing.pending[1:]), changes)
    return standing.pending[0]


def dropped(state: State, trigger: str, changes: Changes) -> None:
    """The trigger is gone: what was pending makes no orders."""
    for lane in state.triggers.standings.lanes(trigger):
        for pending in state.triggers.standings.of(lane).pending:
            reason = f"trigger {trigger} was deleted while it was pending"
            firing = replace(firing_of(trigger, pending), state=FiringState.REJECTED, until=None, reason=reason)
            changes.firings[firing.id] = firing
            changes.event("firing.rejected", firing.id, told(firing))


def firing_of(trigger: str, pending: Pending) -> Firing:
    """The firing that is pending."""
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


def _superseded(trigger: str, pending: Pending, by: str, changes: Changes) -> None:
    firing = replace(
        firing_of(trigger, pending),
        state=FiringState.SUPERSEDED,
        until=None,
        superseded_by=by,
        reason=f"superseded by firing {by} of the same burst",
    )
    changes.firings[firing.id] = firing
    changes.event("firing.superseded", firing.id, told(firing))


def lane_in(record: records.Fired, planned: records.Planned) -> str:
    """The lane that an order of a firing is in."""
    return lane_of(record.trigger, record.group if planned.group is None else planned.group)


def keep(state: State, standing: Standing, changes: Changes) -> None:
    """A trigger or a lane is like this now."""
    state.triggers.standings.put(standing)
    changes.things["standing", standing.name] = standing


def forget(state: State, name: str, changes: Changes) -> None:
    """Nothing needs to be known of a trigger or a lane any more."""
    if state.triggers.standings.drop(name):
        changes.things["standing", name] = None


def forget_cooldowns(state: State, trigger: str, changes: Changes) -> None:
    """No lane of a trigger has a cooldown any more."""
    for lane in state.triggers.standings.lanes(trigger):
        if lane != trigger:
            _put(state, replace(state.triggers.standings.of(lane), last_fired=None), changes)


def _put(state: State, lane: Standing, changes: Changes) -> None:
    """Keep a lane, if anything is known of it."""
    if lane == Standing(name=lane.name):
        forget(state, lane.name, changes)
    else:
        keep(state, lane, changes)


def told(firing: Firing) -> dict[str, Any]:
    """What the event of a firing says."""
    return {
        "trigger": firing.trigger,
        "state": firing.state,
        "reason": firing.reason,
        "orders": firing.orders,
        "chain": firing.depth + 1,
    }
