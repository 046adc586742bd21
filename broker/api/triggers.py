"""`/api/v1/triggers/{name}/…` and `/api/v1/firings`: let a trigger go off, and see what came of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from litestar import Response, Router, get, post
from litestar.params import Parameter

from muster.broker.api.context import (
    MOST_TIMES,
    PREFIX,
    AnyRequest,
    ApiDependency,
    Cursor,
    Limit,
    Name,
    idempotency_key,
)
from muster.broker.api.decode import value
from muster.broker.api.documents import ANYTHING
from muster.broker.api.orders import BY
from muster.broker.api.views import FiringListing, Listing
from muster.mesh.firing import FireReply, Firing

FiringId = Annotated[str, Parameter(description="The firing's id, or as much of its start as no other firing has.")]


@post(
    "/{name:str}/fire",
    status_code=202,
    summary="Let a trigger go off",
    description="The body, any JSON, is the body of the event; it may be empty. The answer is 202 once the firing is "
    "on the log, and 200 if there is no new one: the event had come before, or does not concern the trigger.",
    opt={"body": ANYTHING, "also": 200, "problems": (400, 404, 413, 503)},
)
async def fire(
    name: Name,
    request: AnyRequest,
    api: ApiDependency,
    key: Annotated[
        str | None,
        Parameter(header="Idempotency-Key", description="Makes the request safe to repeat: the same key, one firing."),
    ] = None,
) -> Response[FireReply]:
    """Let a trigger go off by hand."""
    data = await request.body()
    body = value(data) if data.strip() else None
    reply = await api.commands.firings.fire_by_hand(name, body, by=BY, key=idempotency_key(key))
    return Response(reply, status_code=202 if reply.firing and not reply.duplicate else 200)


@get("/{name:str}/firings", summary="A trigger's firings, newest first", opt={"problems": (404, 422)})
async def list_firings(name: Name, api: ApiDependency, limit: Limit = 100, cursor: Cursor = None) -> FiringListing:
    """When the trigger went off, with which event, and which orders that made."""
    page = await api.query.firings(name, limit, cursor)
    return FiringListing(items=page.items, next=page.next)


@get("/{name:str}/next", summary="When a schedule will be due next", opt={"problems": (404, 409, 422)})
async def next_due(
    name: Name,
    api: ApiDependency,
    n: Annotated[int, Parameter(ge=1, le=MOST_TIMES, description="How many times to tell.")] = 5,
) -> Listing:
    """The next times, in UTC (`due`) and in the trigger's own time zone (`local`)."""
    times: list[Any] = [*api.commands.firings.next_due(name, n, datetime.now(UTC))]
    return Listing(items=times)


@get("/{firing:str}", summary="One firing", opt={"problems": (404, 409)})
async def get_firing(firing: FiringId, api: ApiDependency) -> Firing:
    """One firing: its event, and the orders it made or why there are none."""
    return await api.query.firing(firing)


def routers() -> list[Router]:
    """All of it."""
    return [
        Router(path=f"{PREFIX}/triggers", route_handlers=[fire, list_firings, next_due], tags=["triggers"]),
        Router(path=f"{PREFIX}/firings", route_handlers=[get_firing], tags=["triggers"]),
    ]
