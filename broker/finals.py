"""Waiting until an order is final, any number of waiters on one listener."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from muster.broker.feed import Feed
from muster.broker.query import Query
from muster.mesh.errors import UnavailableError
from muster.mesh.events import Event
from muster.mesh.model import Order
from muster.mesh.service import Service

ENDS = frozenset({"order.finished", "order.failed", "order.cancelled"})
"""Event kinds after which an order is final."""

LOOK_AGAIN = 2.0
"""Seconds after which a waiter looks by itself, should an event have passed it by."""


class Finals(Service):
    """Notifies waiters that their order has ended.

    One listener serves all: with a listener a waiter, each event would cost as much as there are waiters.
    """

    def __init__(self, query: Query, feed: Feed) -> None:
        super().__init__()
        self._query, self._feed = query, feed
        self._waiters: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self.closing = asyncio.Event()
        """Set when the broker goes down: waits end early, streams say good-bye."""

    async def run(self) -> None:
        """Listen until cancelled."""
        with self._feed.heard_by(self._heard):
            self.ready.set()
            await asyncio.get_running_loop().create_future()

    def _heard(self, events: Sequence[Event]) -> None:
        if self._waiters:
            self._wake(*(event.subject for event in events if event.kind in ENDS))

    def close(self) -> None:
        """End all waits: the broker goes down."""
        self.closing.set()
        self._wake(*self._waiters)

    async def final(self, order_id: str) -> Order:
        """The order once it is final, or as it is when the broker goes down.

        Raises:
            NotFoundError: there is no such order.
            UnavailableError: the broker goes down, and the projection does not have the order yet.
        """
        with self._waiting(order_id) as changed:
            while True:
                try:
                    order = await self._query.order(order_id)
                except UnavailableError:  # it has ended, and the projection is behind
                    if self.closing.is_set():
                        raise
                else:
                    if order.is_final or self.closing.is_set():
                        return order
                await self._changed(changed)

    async def _changed(self, changed: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(LOOK_AGAIN):
                await changed.wait()
        except TimeoutError:
            return
        changed.clear()

    @contextmanager
    def _waiting(self, order_id: str) -> Iterator[asyncio.Event]:
        changed = asyncio.Event()
        self._waiters[order_id].add(changed)
        try:
            yield changed
        finally:
            self._waiters[order_id].discard(changed)
            if not self._waiters[order_id]:
                del self._waiters[order_id]

    def _wake(self, *order_ids: str) -> None:
        for order_id in order_ids:
            for changed in self._waiters.get(order_id, ()):
                changed.set()
