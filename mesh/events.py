"""What happens, as CloudEvents: one table of kinds that logs, metrics, pages and triggers derive from.

An event's id is the log sequence of its record and its place among that record's events, so it is
the same on every broker and after every replay.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final

import msgspec

from muster.mesh import names

KINDS: Final[dict[str, str]] = {
    "order.created": "an order was accepted",
    "order.queued": "an order goes back in the queue",
    "order.offered": "an order was released to an element or a pool",
    "order.running": "an element runs an order",
    "order.suspended": "an order waits without holding a slot",
    "order.cancelling": "a running order was told to stop",
    "order.finished": "an order ended well",
    "order.failed": "an order ended badly",
    "order.cancelled": "an order was stopped",
    "order.lost": "the agent that ran an order is gone",
    "order.retried": "somebody lets an ended order go on",
    "job.running": "a task started",
    "job.suspended": "a task waits",
    "job.finished": "a task ended well",
    "job.failed": "a task ended badly",
    "job.skipped": "a task's condition did not hold",
    "job.cancelled": "a task was stopped",
    "element.online": "an agent acts for an element",
    "element.offline": "nobody acts for an element any more",
    "element.mode": "an element changed its mode",
    "element.drained": "an element takes nothing new",
    "element.undrained": "an element takes work again",
    "object.created": "an object was made",
    "object.changed": "an object was changed",
    "object.deleted": "an object was deleted",
    "firing.fired": "a trigger went off",
    "firing.skipped": "a trigger went off and made no orders: too many are open, or it was too soon",
    "firing.rejected": "a trigger went off and could make no orders",
    "firing.pending": "a trigger went off and waits until the burst of its events is over",
    "firing.superseded": "another event of the same burst came before a firing made its orders",
    "firing.stopped": "triggers set each other off again and again, and were stopped",
    "inbox.event": "somebody told of something by name",
    "inbox.rejected": "a message on the inbox could not be used",
    "record.refused": "something on the log was no record its writer may write; it changed nothing",
}


class Event(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One thing that happened."""

    id: str
    """`<log sequence>.<place>`: what Last-Event-ID resumes from."""
    kind: str
    """A key of `KINDS`."""
    subject: str
    """The name or id of what it happened to."""
    time: datetime
    data: dict[str, Any] = {}


class EventQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which events to tell, oldest first: `muster.api.events.list`."""

    after: str | None = None
    """Those behind this event; else those since a time, else all that are kept."""
    since: datetime | None = None
    kinds: tuple[str, ...] = ()
    """Only these; a noun alone stands for all of its kinds."""
    limit: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 100
    """0: only tell where the record ends."""


class EventPage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Events, and how far the record was looked through."""

    items: list[Event]
    next: str | None = None
    """What to go on behind; None where nothing has happened yet."""


class _CloudEvent(msgspec.Struct, frozen=True, kw_only=True):
    """CloudEvents 1.0, structured mode."""

    specversion: str = "1.0"
    id: str
    source: str = "muster"
    type: str
    subject: str
    time: datetime
    datacontenttype: str = "application/json"
    data: dict[str, Any]


_PREFIX: Final = "muster."
_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(_CloudEvent)


def nats_subject(kind: str, subject: str) -> str:
    """Where an event is published: `muster.event.<kind>.<action>.<id>`."""
    noun, _, action = kind.partition(".")
    return names.event(noun, action, subject)


def cloud_event(event: Event) -> bytes:
    """The event as CloudEvents JSON: what is kept in the record, and what NATS carries."""
    return _encode(
        _CloudEvent(id=event.id, type=_PREFIX + event.kind, subject=event.subject, time=event.time, data=event.data)
    )


def from_cloud_event(data: bytes) -> Event:
    """The event that `cloud_event` wrote."""
    told = _decoder.decode(data)
    kind = told.type.removeprefix(_PREFIX)
    return Event(id=told.id, kind=kind, subject=told.subject, time=told.time, data=told.data)
