"""What can be asked about the mesh itself: how the broker is, and what happened."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from muster import __version__
from muster.broker.operations.operation import Call, Operation, Route, one
from muster.mesh.events import EventPage, EventQuery
from muster.mesh.version import PROTOCOL


async def info(call: Call, _: None) -> dict[str, Any]:
    """The broker, its version, and what it counts."""
    status = await call.services.status()
    return {"version": __version__, "protocol": PROTOCOL, **msgspec.structs.asdict(status)}


async def list_events(call: Call, request: EventQuery) -> EventPage:
    """What happened, oldest first, and the place to continue from."""
    return await call.services.query.past_events.page(request)


OPERATIONS: Final = (
    Operation(
        name="events.list",
        summary="List events, oldest first, with the position to continue from",
        verb="list",
        kind="event",
        request=EventQuery,
        answer=EventPage,
        handler=list_events,
    ),
    Operation(
        name="info",
        summary="Get the version and the counters of the broker",
        verb="get",
        kind="mesh",
        request=None,
        answer=dict[str, Any],
        handler=info,
        routes=one(Route(method="GET", path="/info", id="get_info", tag="broker")),
    ),
)
