"""One application of a record: the world that it changes, its changes so far, and the worklist."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from heapq import heappop, heappush
from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from muster.broker.state.changes import Changes
    from muster.broker.state.world import World


class Refused(msgspec.Struct, frozen=True):
    """The state machine did not accept a record."""

    reason: str


class Stamp(msgspec.Struct, frozen=True):
    """A record's place in the log."""

    seq: int
    time: datetime
    actor: str


class Key(NamedTuple):
    """An entry of the worklist, which is processed after the record's handler."""

    topic: str
    """The topic, which selects the rules: a key of an aggregate's `rules`."""
    id: str


class Step:
    """What a handler and a rule are given.

    A handler changes the things of its own aggregate only.  What follows for others it leaves to their rules: it puts
    a key on the worklist.
    """

    __slots__ = ("_keys", "_orders", "_seen", "changes", "world")

    def __init__(self, world: World, changes: Changes) -> None:
        self.world = world
        self.changes = changes
        self._keys: dict[Key, None] = {}
        self._orders: list[tuple[datetime, str]] = []
        self._seen: set[str] = set()

    @property
    def stamp(self) -> Stamp:
        """The record's place in the log."""
        return self.changes.stamp

    def put(self, kind: str, ident: str, thing: msgspec.Struct | None) -> None:
        """Keeps a thing in `World.things`, for an aggregate without an index of its own; None forgets it."""
        if thing is None:
            self.world.things.pop((kind, ident), None)
        else:
            self.world.things[kind, ident] = thing
        self.changes.things[kind, ident] = thing

    def enqueue(self, topic: str, ident: str) -> None:
        """Enqueues a thing for the rules of a topic, after previous entries."""
        self._keys[Key(topic, ident)] = None

    def enqueue_order(self, ident: str) -> None:
        """Enqueues an order; orders are processed last, the oldest first."""
        order = self.world.orders.get(ident)
        if order is not None and ident not in self._seen:
            self._seen.add(ident)
            heappush(self._orders, (order.created_at, ident))

    def worklist(self) -> Iterator[Key]:
        """Yields the entries of the worklist until it is empty; processing one can add others."""
        while True:
            if self._keys:
                key = next(iter(self._keys))
                del self._keys[key]
                yield key
            elif self._orders:
                _, ident = heappop(self._orders)
                self._seen.discard(ident)
                yield Key("order", ident)
            else:
                return
