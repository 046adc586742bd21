"""The changes of many records on their way to the tables, the last one of each thing only."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from muster.broker.projection.frame import Doc, EventRow, FiringRow, Frame, encode
from muster.broker.state.changes import Changes
from muster.broker.state.element import Element, StoredObject
from muster.broker.state.order import Stamp
from muster.broker.state.standing import Standing
from muster.mesh.events import Event, cloud_event
from muster.mesh.firing import Firing
from muster.mesh.model import Order

_doc = msgspec.json.Encoder().encode


class Batch:
    """What one transaction will write.  Things are made JSON once, however often they change within it."""

    __slots__ = ("elements", "event_rows", "events", "firings", "objects", "orders", "stamp", "standings")

    def __init__(self) -> None:
        self.stamp = Stamp(0, datetime.min.replace(tzinfo=UTC), "")
        """Of the last record."""
        self.orders: dict[str, Order] = {}
        self.elements: dict[str, Element | None] = {}
        self.objects: dict[tuple[str, str], StoredObject | None] = {}
        self.firings: list[Firing] = []
        self.standings: dict[str, Standing | None] = {}
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
        if changes.elements:
            self.elements.update(changes.elements)
        for key in changes.deleted:
            self.objects[key] = None
        for stored in changes.objects:
            self.objects[stored.kind, stored.name] = stored
        if changes.firings:
            self.firings += changes.firings.values()
        if changes.standings:
            self.standings.update(changes.standings)
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
                objects=[(*key, _doc_of(stored)) for key, stored in self.objects.items()],
                elements=[(name, _doc_of(element)) for name, element in self.elements.items()],
                standings=[(name, _doc_of(standing)) for name, standing in self.standings.items()],
                firings=[_firing_row(firing) for firing in self.firings],
                events=self.event_rows,
            )
        )


def _doc_of(thing: msgspec.Struct | None) -> Doc | None:
    return None if thing is None else _doc(thing)


def _firing_row(firing: Firing) -> FiringRow:
    return firing.seq, firing.id, firing.trigger, firing.state, _doc(firing)
