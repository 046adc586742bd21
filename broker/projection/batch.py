"""What many records changed, on its way to the tables: of each thing only its last state."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import msgspec

from muster.broker.state.changes import Changes, Unreported
from muster.broker.state.step import Stamp
from muster.mesh.events import Event, cloud_event
from muster.mesh.firing import Firing
from muster.mesh.model import Order

MAX_RECORDS: Final = 4000
"""Records in one batch, about."""

MAX_SIZE: Final = 16 * 2**20
"""Bytes of the records in one batch, about."""

EventRow = tuple[int, int, str, str, bytes]
"""Sequence, place, kind, subject, and the event as CloudEvents JSON."""


class Batch:
    """What one transaction writes."""

    __slots__ = ("event_rows", "events", "firings", "orders", "records", "since", "size", "stamp", "things", "untold")

    def __init__(self) -> None:
        self.stamp = Stamp(0, datetime.min.replace(tzinfo=UTC), "")
        """Of the last record."""
        self.records = 0
        self.size = 0
        """Bytes of the records."""
        self.since = 0.0
        """When the first one was added, in the loop's time."""
        self.untold = 0
        """The last record of which no events were made."""
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

    @property
    def is_full(self) -> bool:
        """Whether it is large enough to be written at once."""
        return self.records >= MAX_RECORDS or self.size >= MAX_SIZE

    def add(self, changes: Changes) -> None:
        """Adds what one record changed."""
        self.stamp = changes.stamp
        self.records += 1
        if isinstance(changes, Unreported):
            self.untold = self.seq
        if changes.orders:
            self.orders.update(changes.orders)
        if changes.things:
            self.things |= {key: (self.seq, thing) for key, thing in changes.things.items()}
        if changes.firings:
            self.firings += changes.firings.values()
        for place, event in enumerate(changes.events):
            self.events.append(event)
            self.event_rows.append((self.seq, place, event.kind, event.subject, cloud_event(event)))
