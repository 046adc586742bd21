"""`provider: event`: what happens in the mesh itself, and what is told on `muster.inbox.events.<name>`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any

import msgspec

from muster.blueprints.provider import Happening, Mesh, Source
from muster.mesh.errors import Problem
from muster.mesh.events import Event
from muster.triggers import kinds
from muster.triggers.kinds import TOLD


class EventTrigger(Source):
    """Fires when an event of one of its kinds happens."""

    event_fields = frozenset({"subject"})

    kinds: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=100)]
    """`order.failed`, `element.*` (Muster's own), or names that are told on the inbox; `*` and `?` stand for others."""

    def problems(self) -> Iterator[Problem]:
        """Kinds that there are not."""
        yield from kinds.problems(self.kinds)

    def by_hand(self, body: Any, now: datetime) -> dict[str, Any]:  # noqa: ARG002
        """It happened to nothing."""
        return {"subject": ""}

    async def run(self, mesh: Mesh) -> None:
        """One firing an event, in their order."""
        async for event in mesh.events(self.kinds):
            await mesh.fire(happening(event))


def happening(event: Event) -> Happening:
    """What the event is to a trigger."""
    told = event.kind == TOLD
    body = event.data.get("body") if told else event.data
    seen: dict[str, Any] = {
        "provider": "event",
        "kind": event.subject if told else event.kind,
        "id": event.id,
        "time": msgspec.to_builtins(event.time),
        "subject": event.subject,
        "headers": {},
        "body": body,
    }
    chain = event.data.get("chain", 0)
    return Happening(event=seen, key=event.id, depth=chain if isinstance(chain, int) else 0)
