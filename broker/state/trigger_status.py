"""What a trigger's manifest does not say: when it fired last, what of it is pending, and how triggers are indexed.

A trigger's firings and orders with the same key (what the trigger's `key` gives) are a lane: `cooldown`, `max_open`
and `debounce` count in it.  Without a key, the trigger has one lane, which has its name.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

import msgspec

from muster.mesh.records import NOTHING
from muster.mesh.structs import Wire

MOST_LANES: Final = 10_000
"""Lanes of a trigger that its `cooldown` remembers; beyond, the one that fired longest ago is forgotten."""

MOST_PENDING: Final = 64 * 1024**2
"""Bytes of all events that are pending; beyond, further ones are rejected."""

OVERHEAD: Final = 1024
"""Bytes that a pending firing takes beside its event."""

_LAST: Final = "\U0010ffff"


def lane_of(trigger: str, group: str | None) -> str:
    """The lane of a trigger's firings and orders with a key; no trigger's name has a slash."""
    return trigger if group is None else f"{trigger}/{group}"


def trigger_of(lane: str) -> str:
    """The trigger that a lane belongs to."""
    return lane.partition("/")[0]


class Pending(Wire, omit_defaults=True):
    """A firing that makes its orders once its lane has been quiet for a while."""

    id: str
    seq: int
    """The sequence of its record on the log."""
    time: datetime
    """The time of its record."""
    version: int
    """The trigger's."""
    since: datetime
    """The start of its burst."""
    until: datetime
    """When it creates its orders, unless another firing of the burst replaces it."""
    by: str = ""
    key: str = ""
    group: str | None = None
    due: datetime | None = None
    depth: int = 0
    event: msgspec.Raw = NOTHING

    @property
    def size(self) -> int:
        """Bytes that it takes, about."""
        return OVERHEAD + memoryview(self.event).nbytes


class TriggerStatus(Wire, omit_defaults=True):
    """The state of a trigger, or of one of its lanes."""

    name: str
    """The trigger, or the lane."""
    last_due: datetime | None = None
    """The latest due time that it fired for."""
    last_fired: datetime | None = None
    """When it last created orders; `cooldown` counts from here."""
    last_firing: str = ""
    """Its last firing, with any outcome."""
    max_open: int | None = None
    """The limit for remaining orders of a deleted trigger."""
    pending: tuple[Pending, ...] = ()
    """Firings that wait for the end of a burst: one, or two while the leader is late with the first."""


class TriggerStatuses:
    """How triggers and their lanes are."""

    def __init__(self) -> None:
        self._all: dict[str, TriggerStatus] = {}
        """Of triggers and lanes that fired; and of deleted triggers whose orders still wait for each other."""
        self._lanes: dict[str, set[str]] = {}
        """By trigger, those of its lanes that have a key."""
        self._cooling: dict[str, list[tuple[datetime, str]]] = {}
        """By trigger, when each of these lanes fired, the one that fired longest ago first."""
        self.pending: dict[str, datetime] = {}
        """By lane, when the first of its pending firings makes its orders."""
        self.pending_bytes = 0
        """Of all events that are pending."""

    def __iter__(self) -> Iterator[TriggerStatus]:
        return iter(self._all.values())

    def get(self, name: str) -> TriggerStatus | None:
        """How a trigger or a lane is; None if it never fired, or nothing of that is known any more."""
        return self._all.get(name)

    def of(self, name: str) -> TriggerStatus:
        """The same, or a new one."""
        return self._all.get(name) or TriggerStatus(name=name)

    def lanes(self, trigger: str) -> list[str]:
        """The trigger and its lanes of which something is known."""
        return [lane for lane in (trigger, *sorted(self._lanes.get(trigger, ()))) if lane in self._all]

    def put(self, after: TriggerStatus) -> None:
        """Keep how a trigger or a lane is now."""
        self.drop(after.name)
        self._all[after.name] = after
        self.pending_bytes += sum(each.size for each in after.pending)
        if after.pending:
            self.pending[after.name] = after.pending[0].until
        trigger = trigger_of(after.name)
        if trigger != after.name:
            self._lanes.setdefault(trigger, set()).add(after.name)
            if after.last_fired is not None:
                insort(self._cooling.setdefault(trigger, []), (after.last_fired, after.name))

    def drop(self, name: str) -> bool:
        """Forget a trigger or a lane; whether anything was known."""
        before = self._all.pop(name, None)
        if before is None:
            return False
        self.pending.pop(name, None)
        self.pending_bytes -= sum(each.size for each in before.pending)
        trigger = trigger_of(name)
        if trigger != name:
            self._lanes[trigger].discard(name)
            if not self._lanes[trigger]:
                del self._lanes[trigger]
            if before.last_fired is not None:
                row = self._cooling[trigger]
                del row[bisect_left(row, (before.last_fired, name))]
                if not row:
                    del self._cooling[trigger]
        return True

    def cooled(self, trigger: str, span: timedelta, now: datetime) -> list[str]:
        """Returns the lanes that `cooldown` can forget: their time has passed, or there are too many."""
        row = self._cooling.get(trigger, [])
        over = bisect_left(row, (now - span, _LAST))
        return [lane for _, lane in row[: max(over, len(row) - MOST_LANES)] if not self._all[lane].pending]
