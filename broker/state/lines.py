"""The open orders of triggers, lane by lane: how many are under way, and which of those that wait is next."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from datetime import datetime
from typing import Final

from muster.broker.state.standing import Standing, Standings, lane_of, trigger_of
from muster.mesh.model import Order, OrderState

OVERLAP: Final = "overlap"
"""Why an order waits whose trigger has as many under way as it may (a key of `table.WAITING`)."""

_RELEASED: Final = frozenset({OrderState.OFFERED, OrderState.RUNNING, OrderState.SUSPENDED})

Place = tuple[datetime, str]


def is_under_way(order: Order) -> bool:
    """Whether it takes room among its trigger's orders; one cancelled before it began only waits for its children."""
    return order.state in _RELEASED or (order.state is OrderState.CANCELLING and order.started_at is not None)


class Line:
    """A lane's open orders."""

    __slots__ = ("open", "released", "waiting")

    def __init__(self) -> None:
        self.open: set[str] = set()
        self.released: set[str] = set()
        self.waiting: list[Place] = []
        """Those that wait for nothing but the others, oldest first."""


class Triggers:
    """An index that follows every change of an order that a trigger made."""

    def __init__(self) -> None:
        self.standings = Standings()
        self.limits: dict[str, int] = {}
        """`max_open` of the triggers that have one."""
        self.touched: dict[str, None] = {}
        """Lanes with a limit that have room again, or another limit."""
        self._lines: dict[str, Line] = {}
        self._open: Counter[str] = Counter()
        """How many orders of each trigger are open."""

    def load(self, standing: Standing) -> None:
        """Take up what a projection kept."""
        self.standings.put(standing)
        if standing.max_open is not None:
            self.limit(standing.name, standing.max_open)

    def limit(self, trigger: str, most: int | None) -> None:
        """How many orders of each of a trigger's lanes may be under way from now on."""
        if self.limits.get(trigger) == most:
            return
        if most is None:
            del self.limits[trigger]
        else:
            self.limits[trigger] = most
        self.touched[trigger] = None
        self.touched.update(dict.fromkeys(sorted(lane for lane in self._lines if trigger_of(lane) == trigger)))

    def move(self, before: Order | None, after: Order) -> None:
        """Put an order where it belongs now."""
        trigger = after.trigger or ""
        lane = lane_of(trigger, after.group)
        line = self._lines.get(lane)
        if line is None:
            line = self._lines[lane] = Line()
        if before is not None and before.state is OrderState.QUEUED and before.reason == OVERLAP:
            _take(line.waiting, (before.created_at, before.id))
        if is_under_way(after):
            line.released.add(after.id)
        elif after.id in line.released:
            line.released.discard(after.id)
            self._touch(lane)
        if after.state is OrderState.QUEUED and after.reason == OVERLAP:
            insort(line.waiting, (after.created_at, after.id))
        if after.is_final == (after.id in line.open):
            self._count(trigger, line, after)
        if not line.open:
            del self._lines[lane]
            self._touch(lane)

    def _touch(self, lane: str) -> None:
        if trigger_of(lane) in self.limits:
            self.touched[lane] = None

    def _count(self, trigger: str, line: Line, after: Order) -> None:
        """An order is open that was not, or the other way round."""
        if after.is_final:
            line.open.discard(after.id)
            self._open[trigger] -= 1
            if not self._open[trigger]:
                del self._open[trigger]
        else:
            line.open.add(after.id)
            self._open[trigger] += 1

    def is_full(self, order: Order) -> bool:
        """Whether an order has to wait for others of its lane; one that went once keeps its room until it ends."""
        if order.trigger is None or (most := self.limits.get(order.trigger)) is None:
            return False
        line = self._lines.get(lane_of(order.trigger, order.group))
        return line is not None and order.id not in line.released and len(line.released) >= most

    def next_in(self, lane: str) -> str | None:
        """The order that may go now that there is room."""
        line = self._lines.get(lane)
        if line is None or not line.waiting:
            return None
        most = self.limits.get(trigger_of(lane))
        return line.waiting[0][1] if most is None or len(line.released) < most else None

    def open(self, lane: str) -> frozenset[str]:
        """All of a lane's open orders."""
        line = self._lines.get(lane)
        return frozenset(line.open) if line is not None else frozenset()

    def count(self, trigger: str) -> int:
        """How many orders of a trigger are open, in all of its lanes."""
        return self._open.get(trigger, 0)


def _take(places: list[Place], place: Place) -> None:
    at = bisect_left(places, place)
    if at < len(places) and places[at] == place:
        del places[at]
