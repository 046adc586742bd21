"""Open orders by the element or the pool that they are for: which are open there, and which an agent holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, TypeVar

from muster.broker.state.order import is_held
from muster.broker.state.step import Key
from muster.broker.state.topics import POOL, WORK
from muster.broker.state.waits import target_of
from muster.mesh.model import Order, OrderState

K = TypeVar("K")

_HELD: Final = frozenset({OrderState.RUNNING, OrderState.CANCELLING})


class Held:
    """An index that follows every change of an order."""

    def __init__(self) -> None:
        self._open: dict[Key, dict[str, None]] = {}
        self._held: dict[str, dict[str, None]] = {}
        self._offered: dict[Key, dict[str, None]] = {}

    def move(self, before: Order | None, after: Order) -> None:
        """Follows a change of an order."""
        old = target_of(before) if before is not None and not before.is_final else None
        new = target_of(after) if not after.is_final else None
        if old == new and before is not None and before.state is after.state:
            return
        ident = after.id
        if old != new:
            _drop(self._open, old, ident)
            _put(self._open, new, ident)
        was = before.runner if before is not None and before.state in _HELD else None
        now = after.runner if after.state in _HELD else None
        if was != now:
            _drop(self._held, was, ident)
            _put(self._held, now, ident)
        offered_to = old if before is not None and before.state is OrderState.OFFERED else None
        offered_at = new if after.state is OrderState.OFFERED else None
        if offered_to != offered_at:
            _drop(self._offered, offered_to, ident)
            _put(self._offered, offered_at, ident)

    def by(self, element: str) -> list[str]:
        """Returns the orders that an element's agent holds."""
        row = self._held.get(element)
        return list(row) if row else []

    def running_on(self, element: str, orders: Mapping[str, Order]) -> list[str]:
        """Returns the orders that take slots of an element; one that only waits for its children takes none."""
        return [ident for ident in self.by(element) if is_held(orders[ident])]

    def holders(self) -> Iterator[str]:
        """Returns the elements whose agents hold orders."""
        return iter(self._held)

    def open_for(self, element: str) -> int:
        """Returns how many open orders an element has, whether they run or wait."""
        return len(self._open.get(Key(WORK, element), ()))

    def all_open(self, element: str) -> list[str]:
        """Returns the open orders of an element."""
        return list(self._open.get(Key(WORK, element), ()))

    def open_in(self, pool: str) -> list[str]:
        """Returns the open orders of a pool that no member has claimed."""
        return list(self._open.get(Key(POOL, pool), ()))

    def place_of(self, order: Order) -> int:
        """Returns the place of an offered order in the line of those that are offered to the same target, from 1."""
        line = self._offered.get(target_of(order), {})
        return 1 + next((place for place, ident in enumerate(line) if ident == order.id), len(line))


def _drop(index: dict[K, dict[str, None]], key: K | None, order: str) -> None:
    if key is not None and (row := index.get(key)) is not None:
        row.pop(order, None)
        if not row:
            del index[key]


def _put(index: dict[K, dict[str, None]], key: K | None, order: str) -> None:
    if key is not None:
        index.setdefault(key, {})[order] = None
