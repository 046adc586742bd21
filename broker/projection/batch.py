"""What many records changed, on its way to the tables: of each thing only its last state."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from muster.broker.state.changes import Changes
from muster.broker.state.order import Stamp
from muster.mesh.events import Event, cloud_event
from muster.mesh.firing import Firing
from muster.mesh.model import Order

EventRow = tuple[int, int, str, str, bytes]
"""Sequence, place, kind, subject, and the event as CloudEvents JSON."""


class Batch:
    """What one transaction writes."""

    __slots__ = ("event_rows", "events", "firings", "orders", "stamp", "things")

    def __init__(self) -> None:
        self.stamp = Stamp(0, datetime.min.replace(tzinfo=UTC), "")
        """Of the last record."""
        self.orders: dict[str, Order] = {}
        self.things: dict[tuple[str, str], tuple[int, msgspec.Struct | None]] = {}
        """Everything else that is alive, by kind and id: when it last changed, and what it is; None if deleted."""
        self.firings: list[Firing] = []
        self.events: list[Event] = []
        self.event_rows: list[EventRow] = []

    @property
    def seq(self) -> int:
        """The log sequence that the tables reach with it; 0 for an empty batch."""
        return self.stamp.seq

    def add(self, changes: Changes) -> None:
        """Adds what one record changed."""
        self.stamp = changes.stamp
        if changes.orders:
            self.orders.update(changes.orders)
        if changes.things:
            self.things |= {key: (self.seq, thing) for key, thing in changes.things.items()}
        if changes.firings:
            self.firings += changes.firings.values()
        for place, event in enumerate(changes.events):
            self.events.append(event)
            self.event_rows.append((self.seq, place, event.kind, event.subject, cloud_event(event)))
