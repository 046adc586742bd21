"""`provider: event`: Muster's own events, and events from `muster.inbox.events.<name>`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any

import msgspec

from muster.blueprints.provider import Happening, Mesh, Source
from muster.mesh.errors import Problem
from muster.mesh.events import MISSED, Event
from muster.triggers import kinds
from muster.triggers.kinds import OWN_EVENT


class EventTrigger(Source):
    """Fires when an event of one of its kinds happens."""

    event_fields = frozenset({"subject"})

    kinds: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=100)]
    """Kinds of Muster's events (`order.failed`, `element.*`), or names of your own; `*` and `?` are wildcards."""

    def problems(self) -> Iterator[Problem]:
        """Yields unknown kinds."""
        yield from kinds.problems(self.kinds)

    def by_hand(self, body: Any, now: datetime) -> dict[str, Any]:  # noqa: ARG002
        """Returns an empty subject."""
        return {"subject": ""}

    async def run(self, mesh: Mesh) -> None:
        """Fires for each event, in order."""
        async for event in mesh.events(self.kinds):
            await mesh.fire(happening(event))


def happening(event: Event) -> Happening:
    """Converts an event for a trigger."""
    if event.kind == MISSED:
        return _missed(event)
    is_own = event.kind == OWN_EVENT
    body = event.data.get("body") if is_own else event.data
    seen: dict[str, Any] = {
        "provider": "event",
        "kind": event.subject if is_own else event.kind,
        "id": event.id,
        "time": msgspec.to_builtins(event.time),
        "subject": event.subject,
        "headers": {},
        "body": body,
    }
    chain = event.data.get("chain", 0)
    return Happening(event=seen, key=event.id, depth=chain if isinstance(chain, int) else 0)


def _missed(event: Event) -> Happening:
    """A firing that is rejected, so that the gap is on the record."""
    after, following = event.data["after"], event.data["next"]
    why = f"the events after {after} up to {following} are no longer kept: this trigger was offline for too long"
    seen = {"provider": "event", "kind": MISSED, "id": event.id, "time": msgspec.to_builtins(event.time)}
    seen |= {"subject": "", "headers": {}, "body": event.data}
    return Happening(event=seen, key=f"missed.{after}.{following}", rejected=why)
