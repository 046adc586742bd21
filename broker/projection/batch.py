"""The changes of many records on their way to the tables, the last one of each thing only."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from muster.broker.projection.frame import Doc, EventRow, FiringRow, Frame, encode
from muster.broker.state.changes import Changes
from muster.broker.state.order import Stamp
from muster.mesh.events import Event, cloud_event
from muster.mesh.firing import Firing
from muster.mesh.model import Order

_doc = msgspec.json.Encoder().encode


class Batch:
    """What one transaction will write.  Things are made JSON once, however often they change within it."""

    __slots__ = ("event_rows", "events", "firings", "orders", "stamp", "things")

    def __init__(self) -> None:
        self.stamp = Stamp(0, datetime.min.replace(tzinfo=UTC), "")
        """Of the last record."""
        self.orders: dict[str, Order] = {}
        self.things: dict[tuple[str, str], tuple[int, msgspec.Struct | None]] = {}
        """By kind and id, each with the sequence of the record that changed it."""
        self.firings: list[Firing] = []
        self.events: list[Event] = []
        self.event_rows: list[EventRow] = []

    @property
    def seq(self) -> int:
        """The log sequence that it reaches; 0 for an empty one."""
        return self.stamp.seq

    def add(self, changes: Changes) -> None:
        """Take in what one record changed."""
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

    def frame(self) -> bytes:
        """All of it, for the process that writes it."""
        return encode(
            Frame(
                seq=self.stamp.seq,
                time=self.stamp.time,
                orders=[_doc(order) for order in self.orders.values()],
                things=[(*key, seq, _doc_of(thing)) for key, (seq, thing) in self.things.items()],
                firings=[_firing_row(firing) for firing in self.firings],
                events=self.event_rows,
            )
        )


def _doc_of(thing: msgspec.Struct | None) -> Doc | None:
    return None if thing is None else _doc(thing)


def _firing_row(firing: Firing) -> FiringRow:
    return firing.seq, firing.id, firing.trigger, firing.state, _doc(firing)
