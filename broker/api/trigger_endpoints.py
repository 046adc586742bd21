"""What trigger services ask of a broker: `muster.api.firings.*`, `muster.api.triggers.*`, `muster.api.events.list`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
from nats.aio.msg import Msg

from muster.broker.api.context import MOST_ITEMS, MOST_TIMES, Api
from muster.broker.api.decode import decode
from muster.broker.api.endpoint import endpoint
from muster.broker.api.views import FiringListing, Listing
from muster.mesh.events import EventPage, EventQuery
from muster.mesh.firing import Definition, DueQuery, DueReply, FireReply, FireRequest, Firing
from muster.mesh.model import Wire
from muster.mesh.nesting import WRAPPED


class FiringRef(Wire):
    """Which firing."""

    id: str


class FiringQuery(Wire):
    """Which firings to list."""

    trigger: str
    limit: Annotated[int, msgspec.Meta(ge=1, le=MOST_ITEMS)] = 100
    cursor: str | None = None


class TriggerRef(Wire):
    """Which trigger."""

    name: str


class NextQuery(Wire):
    """Of which trigger, and how many times."""

    name: str
    n: Annotated[int, msgspec.Meta(ge=1, le=MOST_TIMES)] = 5


async def create_firing(api: Api, request: Msg) -> FireReply:
    """Put a firing on the log, if the event concerns the trigger."""
    return await api.commands.firings.fire(decode(FireRequest, request.data, WRAPPED))


async def get_firing(api: Api, request: Msg) -> Firing:
    """One firing, by its id or a unique start of it."""
    return await api.query.firing(decode(FiringRef, request.data).id)


async def list_firings(api: Api, request: Msg) -> FiringListing:
    """A trigger's firings, newest first."""
    asked = decode(FiringQuery, request.data)
    page = await api.query.firings(asked.trigger, asked.limit, asked.cursor)
    return FiringListing(items=page.items, next=page.next)


async def get_trigger(api: Api, request: Msg) -> Definition:
    """A trigger as trigger services need it."""
    return api.commands.firings.definition(decode(TriggerRef, request.data).name)


async def last_due(api: Api, request: Msg) -> DueReply:
    """When schedules were due last, as far as the log has it."""
    return api.commands.firings.last_due(decode(DueQuery, request.data or b"{}"))


async def next_due(api: Api, request: Msg) -> Listing:
    """When a schedule will be due the next times."""
    asked = decode(NextQuery, request.data)
    times: list[Any] = [*api.commands.firings.next_due(asked.name, asked.n, datetime.now(UTC))]
    return Listing(items=times)


async def list_events(api: Api, request: Msg) -> EventPage:
    """What happened, oldest first, and the place to go on behind."""
    return await api.query.event_page(decode(EventQuery, request.data or b"{}"))


ENDPOINTS: Final = (
    endpoint("firings", "create", create_firing),
    endpoint("firings", "get", get_firing),
    endpoint("firings", "list", list_firings),
    endpoint("triggers", "get", get_trigger),
    endpoint("triggers", "due", last_due),
    endpoint("triggers", "next", next_due),
    endpoint("events", "list", list_events),
)
