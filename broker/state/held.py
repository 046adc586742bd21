"""Open orders by what they are for: which wait there to be released, which are offered, and which an agent holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from muster.broker.state.order import is_held
from muster.broker.state.step import Key
from muster.broker.state.table import TABLE, Place
from muster.broker.state.topics import POOL, WORK
from muster.mesh.model import Order

_PLACES: Final = {state: row.place for state, row in TABLE.items()}

Row = dict[str, None]
"""Ids of orders, first come first served."""

NOTHING: Final[Row] = {}


def target_of(order: Order) -> Key:
    """Returns what an order is released to: its runner if that is known, else its pool."""
    return Key(WORK, order.runner) if order.runner is not None else Key(POOL, order.pool or "")


class Held:
    """An index that follows every change of an order."""

    def __init__(self) -> None:
        self._open: dict[Key, Row] = {}
        self._by_place: dict[Place, dict[Key, Row]] = {place: {} for place in Place}

    def move(self, before: Order | None, after: Order) -> None:
        """Follows a change of an order."""
        ident = after.id
        old = None if before is None or before.is_final else target_of(before)
        new = None if after.is_final else target_of(after)
        if old != new:
            _drop(self._open, old, ident)
            _put(self._open, new, ident)
        was = _PLACES[before.state] if before is not None else None
        now = _PLACES[after.state]
        if (was, old) == (now, new):
            return
        if was is not None:
            _drop(self._by_place[was], old, ident)
        if now is not None:
            _put(self._by_place[now], new, ident)

    def queued_for(self, key: Key) -> list[str]:
        """Returns the orders that wait to be released to what a key names."""
        row = self._by_place[Place.QUEUED].get(key)
        return list(row) if row else []

    def by(self, element: str) -> list[str]:
        """Returns the orders that an element's agent holds."""
        return list(self._by_place[Place.HELD].get(Key(WORK, element), NOTHING))

    def running_on(self, element: str, orders: Mapping[str, Order]) -> list[str]:
        """Returns the orders that take slots of an element; one that only waits for its children takes none."""
        return [ident for ident in self.by(element) if is_held(orders[ident])]

    def holders(self) -> Iterator[str]:
        """Returns the elements whose agents hold orders."""
        return (key.id for key in self._by_place[Place.HELD] if key.topic == WORK)

    def open_for(self, element: str) -> int:
        """Returns how many open orders an element has, whether they run or wait."""
        return len(self._open.get(Key(WORK, element), NOTHING))

    def all_open(self, key: Key) -> list[str]:
        """Returns the open orders of an element or a pool."""
        return list(self._open.get(key, NOTHING))

    def place_of(self, order: Order) -> int:
        """Returns the place of an offered order in the line of those that are offered to the same target, from 1."""
        line = self._by_place[Place.OFFERED].get(target_of(order), NOTHING)
        return 1 + next((place for place, ident in enumerate(line) if ident == order.id), len(line))


def _drop(index: dict[Key, Row], key: Key | None, order: str) -> None:
    if key is not None and (row := index.get(key)) is not None:
        row.pop(order, None)
        if not row:
            del index[key]


def _put(index: dict[Key, Row], key: Key | None, order: str) -> None:
    if key is not None:
        index.setdefault(key, {})[order] = None
