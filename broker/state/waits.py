"""Queued orders by what releases them: an index that follows every change of an order."""

from __future__ import annotations

from muster.broker.state.step import Key
from muster.broker.state.topics import POOL, WORK
from muster.mesh.model import Order, OrderState


def target_of(order: Order) -> Key:
    """Returns what an order is released to: its runner if that is known, else its pool."""
    return Key(WORK, order.runner) if order.runner is not None else Key(POOL, order.pool or "")


class Waits:
    """Which queued orders to look at again when an element or a pool changes."""

    def __init__(self) -> None:
        self._by_key: dict[Key, dict[str, None]] = {}

    def move(self, before: Order | None, after: Order) -> None:
        """Follows a change of an order."""
        old = target_of(before) if before is not None and before.state is OrderState.QUEUED else None
        new = target_of(after) if after.state is OrderState.QUEUED else None
        if old == new:
            return
        if old is not None and (row := self._by_key.get(old)) is not None:
            row.pop(after.id, None)
            if not row:
                del self._by_key[old]
        if new is not None:
            self._by_key.setdefault(new, {})[after.id] = None

    def on(self, key: Key) -> list[str]:
        """Returns the orders that wait for what a key names."""
        row = self._by_key.get(key)
        return list(row) if row else []
