"""Events, as CloudEvents: the one table of kinds that logs, metrics, pages and triggers use.

The id of an event is the log sequence of its record and its index among the events of that record.
Therefore it is the same on every broker and after every replay.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final

import msgspec

from muster.mesh import names

KINDS: Final[dict[str, str]] = {
    "order.created": "an order was accepted",
    "order.queued": "an order returned to the queue",
    "order.offered": "an order was released to an element or a pool",
    "order.running": "an element started an order",
    "order.suspended": "an order waits without holding a slot",
    "order.cancelling": "a running order received a request to stop",
    "order.finished": "an order finished",
    "order.failed": "an order failed",
    "order.cancelled": "an order was cancelled",
    "order.lost": "the agent that ran an order was lost",
    "order.retried": "a failed or cancelled order was retried",
    "job.running": "a task started",
    "job.suspended": "a task waits",
    "job.finished": "a task finished",
    "job.failed": "a task failed",
    "job.skipped": "a task's condition was false",
    "job.cancelled": "a task was cancelled",
    "element.online": "an element has an agent",
    "element.offline": "an element has no agent any more",
    "element.mode": "the mode of an element changed",
    "element.drained": "an element accepts no new orders",
    "element.undrained": "an element accepts orders again",
    "object.created": "an object was created",
    "object.changed": "an object was changed",
    "object.deleted": "an object was deleted",
    "firing.fired": "a trigger fired",
    "firing.skipped": "a trigger fired and created no orders, because of `max_open` or `cooldown`",
    "firing.rejected": "a trigger fired and could not create orders",
    "firing.pending": "a trigger fired and waits for the end of a burst",
    "firing.superseded": "a later event of the same burst replaced a firing",
    "firing.stopped": "triggers made each other fire ten times in a row, and were stopped",
    "inbox.event": "a message on `muster.inbox.events.<name>` was recorded",
    "inbox.rejected": "a message on the inbox was invalid",
    "record.refused": "a message on the log was not a record that its writer is allowed to write; it changed nothing",
}


MISSED: Final = "events.missed"
"""In line among a trigger's events if it was offline for longer than they are kept: those after `after` up to `next`
are missing.  It is not on the record; the firing that it leads to is."""


class Event(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One thing that happened."""

    id: str
    """`<log sequence>.<place>`: what Last-Event-ID resumes from."""
    kind: str
    """A key of `KINDS`."""
    subject: str
    """The name or id of the object that it concerns."""
    time: datetime
    data: dict[str, Any] = {}


class EventQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Selects events, oldest first: the request of `muster.api.events.list`."""

    after: str | None = None
    """Only events after this one; without it, events since `since`, or all that are kept."""
    since: datetime | None = None
    kinds: tuple[str, ...] = ()
    """Only these kinds; a noun alone selects all of its kinds."""
    limit: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 100
    """0 returns no events, only the end position."""


class EventPage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A page of events, and the position that it reaches."""

    items: list[Event]
    next: str | None = None
    """The `after` of the next request; None if there are no events yet."""
    more: bool = False
    """Whether there are more at once: a page is also bounded in bytes."""


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
    """Returns the subject on which an event is published: `muster.event.<kind>.<action>.<id>`."""
    noun, _, action = kind.partition(".")
    return names.event(noun, action, subject)


def cloud_event(event: Event) -> bytes:
    """Encodes an event as CloudEvents JSON, for storage and for NATS."""
    return _encode(
        _CloudEvent(id=event.id, type=_PREFIX + event.kind, subject=event.subject, time=event.time, data=event.data)
    )


def from_cloud_event(data: bytes) -> Event:
    """Decodes an event that `cloud_event` encoded."""
    found = _decoder.decode(data)
    kind = found.type.removeprefix(_PREFIX)
    return Event(id=found.id, kind=kind, subject=found.subject, time=found.time, data=found.data)
