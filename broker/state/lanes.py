"""Lanes: how many orders of a kind may be under way at a time, and what happens to the next one.

An order is in the lanes that `lanes_of` names: today, that of its trigger and its key.  A rule belongs to an owner
(`trigger/nightly`) and holds for each of its lanes (`trigger/nightly`, `trigger/nightly/main`) by itself.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from datetime import datetime
from typing import Final, Literal

import msgspec

from muster.broker.state.table import TABLE
from muster.mesh.model import Order, OrderState
from muster.mesh.waiting import Lane

_ADMITTED: Final = frozenset(state for state, row in TABLE.items() if row.is_admitted)

Place = tuple[datetime, str]
"""An order's creation and id: its place among those that wait."""


class LaneRule(msgspec.Struct, frozen=True, kw_only=True):
    """How many orders of each of an owner's lanes may be under way."""

    limit: int
    on_limit: Literal["queue", "refuse", "skip", "replace"] = "queue"
    """What happens to one more; `skip` and `replace` are decided when it is made."""


def lane_of(trigger: str, group: str | None) -> str:
    """Returns the lane of a trigger's orders with a key; no name has a slash."""
    return f"trigger/{trigger}" if group is None else f"trigger/{trigger}/{group}"


def of_trigger_lane(name: str) -> str:
    """Returns the lane of orders that belongs to a trigger's status, or to one of its lanes."""
    return f"trigger/{name}"


def owner_of(lane: str) -> str:
    """Returns the owner of a lane: the kind and the name that it starts with."""
    kind, _, rest = lane.partition("/")
    return f"{kind}/{rest.partition('/')[0]}"


def lanes_of(order: Order) -> tuple[str, ...]:
    """Returns the lanes that an order is in."""
    return (lane_of(order.trigger, order.group),) if order.trigger is not None else ()


def is_under_way(order: Order) -> bool:
    """Whether it counts in its lanes; one that was cancelled before it started only waits for its children."""
    return order.state in _ADMITTED or (order.state is OrderState.CANCELLING and order.started_at is not None)


class _Line:
    """The open orders of a lane."""

    __slots__ = ("admitted", "open", "waiting")

    def __init__(self) -> None:
        self.open: set[str] = set()
        self.admitted: set[str] = set()
        self.waiting: list[Place] = []
        """Those that wait for nothing but the others, oldest first."""


class Lanes:
    """An index that follows every change of an order."""

    def __init__(self) -> None:
        self.rules: dict[str, LaneRule] = {}
        """By owner."""
        self._lines: dict[str, _Line] = {}
        self._open: Counter[str] = Counter()
        """By owner, how many orders are open in all of its lanes."""

    def rule(self, owner: str, rule: LaneRule | None) -> list[str]:
        """Sets an owner's rule; returns the lanes to process."""
        if self.rules.get(owner) == rule:
            return []
        if rule is None:
            del self.rules[owner]
        else:
            self.rules[owner] = rule
        return sorted({owner, *(lane for lane in self._lines if owner_of(lane) == owner)})

    def move(self, before: Order | None, after: Order) -> list[str]:
        """Follows a change of an order; returns the lanes that have a free place, or nothing in them any more."""
        return [lane for lane in lanes_of(after) if self._move_in(lane, before, after)]

    def _move_in(self, lane: str, before: Order | None, after: Order) -> bool:
        owner, line = owner_of(lane), self._lines.get(lane)
        if line is None:
            line = self._lines[lane] = _Line()
        is_freed = False
        if before is not None and _waits_in(before, lane):
            _remove(line.waiting, (before.created_at, before.id))
            is_freed = not is_under_way(after)
        if is_under_way(after):
            line.admitted.add(after.id)
        elif after.id in line.admitted:
            line.admitted.discard(after.id)
            is_freed = True
        if _waits_in(after, lane):
            insort(line.waiting, (after.created_at, after.id))
        if after.is_final and after.id in line.open:
            line.open.discard(after.id)
            self._open[owner] -= 1
            if not self._open[owner]:
                del self._open[owner]
        elif not after.is_final and after.id not in line.open:
            line.open.add(after.id)
            self._open[owner] += 1
        if not line.open:
            del self._lines[lane]
            is_freed = True
        return is_freed and owner in self.rules

    def blocks(self, order: Order) -> Lane | None:
        """Returns what an order waits for; one that was admitted keeps its place until it ends."""
        for lane in lanes_of(order):
            rule, line = self.rules.get(owner_of(lane)), self._lines.get(lane)
            if rule is None or line is None or order.id in line.admitted or len(line.admitted) < rule.limit:
                continue
            return Lane(name=lane, limit=rule.limit)
        return None

    def next_in(self, lane: str) -> list[str]:
        """Returns the orders that may be admitted now, the oldest first."""
        line = self._lines.get(lane)
        if line is None:
            return []
        rule = self.rules.get(owner_of(lane))
        free = len(line.waiting) if rule is None else max(0, rule.limit - len(line.admitted))
        return [ident for _, ident in line.waiting[:free]]

    def place_of(self, order: Order, lane: str) -> int:
        """Returns the place of a waiting order in its lane, from 1."""
        line = self._lines.get(lane)
        return 1 + (bisect_left(line.waiting, (order.created_at, order.id)) if line is not None else 0)

    def open(self, lane: str) -> frozenset[str]:
        """Returns the open orders of a lane."""
        line = self._lines.get(lane)
        return frozenset(line.open) if line is not None else frozenset()

    def count(self, owner: str) -> int:
        """Returns how many orders are open in all lanes of an owner."""
        return self._open.get(owner, 0)


def _waits_in(order: Order, lane: str) -> bool:
    return order.state is OrderState.QUEUED and isinstance(order.waiting, Lane) and order.waiting.name == lane


def _remove(places: list[Place], place: Place) -> None:
    at = bisect_left(places, place)
    if at < len(places) and places[at] == place:
        del places[at]
