"""How triggers stand: when each went off last, and how many of its orders are under way."""

from __future__ import annotations

from bisect import bisect_left, insort
from datetime import datetime
from typing import Final

from muster.mesh.model import Order, OrderState, Wire

OVERLAP: Final = "overlap"
"""Why an order waits whose trigger has as many under way as it may (a key of `table.WAITING`)."""

_RELEASED: Final = frozenset({OrderState.OFFERED, OrderState.RUNNING, OrderState.SUSPENDED})

Place = tuple[datetime, str]


def is_under_way(order: Order) -> bool:
    """Whether it takes room among its trigger's orders; one cancelled before it began only waits for its children."""
    return order.state in _RELEASED or (order.state is OrderState.CANCELLING and order.started_at is not None)


class Standing(Wire, omit_defaults=True):
    """What a trigger's manifest does not say."""

    name: str
    last_due: datetime | None = None
    """The latest time it was due and went off for."""
    last_fired: datetime | None = None
    """When it last made orders: what `cooldown` counts from."""
    last_firing: str = ""
    """Its last firing, whatever came of it."""
    max_open: int | None = None
    """What still holds for the orders of a trigger that was deleted."""


class Line:
    """A trigger's open orders."""

    __slots__ = ("open", "released", "waiting")

    def __init__(self) -> None:
        self.open: set[str] = set()
        self.released: set[str] = set()
        self.waiting: list[Place] = []
        """Those that wait for nothing but the others, oldest first."""


class Triggers:
    """An index that follows every change of an order that a trigger made."""

    def __init__(self) -> None:
        self.standing: dict[str, Standing] = {}
        """Of triggers that went off; and of deleted ones whose orders still wait for each other."""
        self.limits: dict[str, int] = {}
        """`max_open` of the triggers that have one."""
        self.touched: dict[str, None] = {}
        """Triggers with a limit that have room again, or another limit."""
        self._lines: dict[str, Line] = {}

    def limit(self, trigger: str, most: int | None) -> None:
        """How many of a trigger's orders may be under way from now on."""
        if self.limits.get(trigger) == most:
            return
        if most is None:
            del self.limits[trigger]
        else:
            self.limits[trigger] = most
        self.touched[trigger] = None

    def move(self, before: Order | None, after: Order) -> None:
        """Put an order where it belongs now."""
        trigger = after.trigger or ""
        line = self._lines.get(trigger)
        if line is None:
            line = self._lines[trigger] = Line()
        if before is not None and before.state is OrderState.QUEUED and before.reason == OVERLAP:
            _take(line.waiting, (before.created_at, before.id))
        if is_under_way(after):
            line.released.add(after.id)
        elif after.id in line.released:
            line.released.discard(after.id)
            if trigger in self.limits:
                self.touched[trigger] = None
        if after.state is OrderState.QUEUED and after.reason == OVERLAP:
            insort(line.waiting, (after.created_at, after.id))
        if not after.is_final:
            line.open.add(after.id)
            return
        line.open.discard(after.id)
        if not line.open:
            del self._lines[trigger]
            if trigger in self.limits:
                self.touched[trigger] = None

    def is_full(self, order: Order) -> bool:
        """Whether an order has to wait for others of its trigger; one that went once keeps its room until it ends."""
        if order.trigger is None or (most := self.limits.get(order.trigger)) is None:
            return False
        line = self._lines.get(order.trigger)
        return line is not None and order.id not in line.released and len(line.released) >= most

    def next_in(self, trigger: str) -> str | None:
        """The order that may go now that there is room."""
        line = self._lines.get(trigger)
        if line is None or not line.waiting:
            return None
        most = self.limits.get(trigger)
        return line.waiting[0][1] if most is None or len(line.released) < most else None

    def open(self, trigger: str) -> frozenset[str]:
        """All of a trigger's open orders."""
        line = self._lines.get(trigger)
        return frozenset(line.open) if line is not None else frozenset()

    def count(self, trigger: str) -> int:
        """How many of its orders are open."""
        line = self._lines.get(trigger)
        return len(line.open) if line is not None else 0


def _take(places: list[Place], place: Place) -> None:
    at = bisect_left(places, place)
    if at < len(places) and places[at] == place:
        del places[at]
