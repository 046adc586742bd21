"""Open orders by where they are for: which wait there, and which are held there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from muster.mesh.model import Order, OrderState

_HELD: Final[frozenset[OrderState | None]] = frozenset({OrderState.RUNNING, OrderState.CANCELLING})
_WAITING: Final[frozenset[OrderState | None]] = frozenset({OrderState.QUEUED})


def element_shelf(name: str) -> str:
    """The shelf of an element."""
    return f"element/{name}"


def pool_shelf(name: str) -> str:
    """The shelf of a pool."""
    return f"pool/{name}"


def shelf_of(order: Order) -> str:
    """Where an order is released to: its element if it has one, else its pool."""
    return element_shelf(order.element) if order.element is not None else pool_shelf(order.pool or "")


class Shelves:
    """An index that follows every change of an open order; the order of insertion is first come, first served."""

    def __init__(self) -> None:
        self._open: dict[str, dict[str, None]] = {}
        self._waiting: dict[str, dict[str, None]] = {}
        self._held: dict[str, dict[str, None]] = {}
        self._by_state = ((_WAITING, self._waiting), (_HELD, self._held))

    def move(self, before: Order | None, after: Order | None) -> None:
        """Put an order where it belongs now; `before` and `after` are None outside its open life."""
        order = after or before
        if order is None:
            return
        old = shelf_of(before) if before is not None else None
        new = shelf_of(after) if after is not None else None
        was = before.state if before is not None else None
        now = after.state if after is not None else None
        if old == new and was is now:
            return
        if old != new:
            _take(self._open, old, order.id)
            _put(self._open, new, order.id)
        for state, index in self._by_state:
            if was in state:
                _take(index, old, order.id)
            if now in state:
                _put(index, new, order.id)

    def waiting(self, shelf: str) -> list[str]:
        """Queued orders of a shelf, first come first."""
        return list(self._waiting.get(shelf, ()))

    def held(self, element: str) -> list[str]:
        """Orders that an element runs."""
        return list(self._held.get(element_shelf(element), ()))

    def count(self, shelf: str) -> int:
        """How many open orders a shelf has."""
        return len(self._open.get(shelf, ()))

    def open(self, shelf: str) -> list[str]:
        """All open orders of a shelf."""
        return list(self._open.get(shelf, ()))

    def holders(self) -> Iterator[str]:
        """Elements that run something."""
        for shelf in self._held:
            yield shelf.partition("/")[2]


def _take(index: dict[str, dict[str, None]], shelf: str | None, order: str) -> None:
    if shelf is not None and (row := index.get(shelf)) is not None:
        row.pop(order, None)
        if not row:
            del index[shelf]


def _put(index: dict[str, dict[str, None]], shelf: str | None, order: str) -> None:
    if shelf is not None:
        index.setdefault(shelf, {})[order] = None
