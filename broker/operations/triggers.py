"""What can be asked about triggers and firings: fire, read what came of it, and when a schedule is due."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec

from muster.broker.operations.answers import FiringListing, Listing
from muster.broker.operations.decode import decode, value
from muster.broker.operations.fields import MAX_TIMES, Cursor, Limit, ObjectName
from muster.broker.operations.operation import ANYTHING, Call, Operation, Route, one
from muster.mesh.firing import Definition, DueQuery, DueReply, FireReply, FireRequest, Firing
from muster.mesh.nesting import WRAPPED
from muster.mesh.structs import Wire


class FiringRef(Wire):
    """Which firing."""

    id: Annotated[str, msgspec.Meta(description="The firing's id, or as much of its start as no other firing has.")]


class FiringQuery(Wire):
    """Which firings to list."""

    trigger: ObjectName
    limit: Limit = 100
    cursor: Cursor = None


class TriggerRef(Wire):
    """Which trigger."""

    name: ObjectName


class TriggerEvent(TriggerRef):
    """An event for a trigger, from a person."""

    body: Any = None


class NextQuery(TriggerRef):
    """Of which trigger, and how many times."""

    n: Annotated[int, msgspec.Meta(ge=1, le=MAX_TIMES, description="How many times to report.")] = 5


async def create_firing(call: Call, request: FireRequest) -> FireReply:
    """Put a firing on the log; it is the trigger's, whichever process has heard of the event."""
    return await call.services.firings.fire(request)


async def fire(call: Call, request: TriggerEvent) -> FireReply:
    """Fire a trigger by hand."""
    return await call.services.firings.fire_by_hand(request.name, request.body, by=call.caller, key=call.key)


async def get_firing(call: Call, request: FiringRef) -> Firing:
    """One firing."""
    return await call.services.query.firing(request.id)


async def list_firings(call: Call, request: FiringQuery) -> FiringListing:
    """One page of a trigger's firings, newest first."""
    page = await call.services.query.firings(request.trigger, request.limit, request.cursor)
    return FiringListing(items=page.items, next=page.next)


async def get_trigger(call: Call, request: TriggerRef) -> Definition:
    """A trigger as trigger services need it."""
    return call.services.firings.definition(request.name)


async def last_due(call: Call, request: DueQuery) -> DueReply:
    """When schedules were due last."""
    return call.services.firings.last_due(request)


async def next_due(call: Call, request: NextQuery) -> Listing:
    """When a schedule will be due the next times."""
    times: list[Any] = [*call.services.firings.next_due(request.name, request.n, datetime.now(UTC))]
    return Listing(items=times)


def _fire_request(data: bytes) -> FireRequest:
    return decode(FireRequest, data, WRAPPED)


def _event(body: bytes, given: dict[str, Any]) -> TriggerEvent:
    return TriggerEvent(body=value(body) if body.strip() else None, **given)


OPERATIONS: Final = (
    Operation(
        name="firings.create",
        summary="Create a firing, if the event matches the trigger",
        verb="fire",
        kind="trigger",
        request=FireRequest,
        answer=FireReply,
        handler=create_firing,
        decoder=_fire_request,
    ),
    Operation(
        name="triggers.fire",
        summary="Fire a trigger by hand",
        verb="fire",
        kind="trigger",
        request=TriggerEvent,
        answer=FireReply,
        handler=fire,
        routes=one(
            Route(
                method="POST",
                path="/triggers/{name}/fire",
                id="fire",
                tag="triggers",
                description="The body, any JSON, is the body of the event; it may be empty. The answer is 202 once the "
                "firing is on the log, and 200 if there is no new one: the event is a duplicate, or does not concern "
                "the trigger.",
                body=ANYTHING,
                read=_event,
                idempotent=True,
                status=202,
                also=200,
                is_also=lambda reply: not reply.firing or reply.duplicate,
                problems=(400, 404, 413, 503),
            )
        ),
        on_nats=False,  # whoever publishes an event over NATS has `muster.inbox.events.<name>`
    ),
    Operation(
        name="firings.get",
        summary="Get a firing: its event, and its orders or the reason why there are none",
        verb="get",
        kind="trigger",
        request=FiringRef,
        answer=Firing,
        handler=get_firing,
        routes=one(
            Route(
                method="GET",
                path="/firings/{firing}",
                renamed={"firing": "id"},
                id="get_firing",
                tag="triggers",
                summary="Get a firing",
                description="Its event, and the orders that it made or why there are none.",
                problems=(404, 409),
            )
        ),
    ),
    Operation(
        name="firings.list",
        summary="List the firings of a trigger, newest first",
        verb="get",
        kind="trigger",
        request=FiringQuery,
        answer=FiringListing,
        handler=list_firings,
        routes=one(
            Route(
                method="GET",
                path="/triggers/{name}/firings",
                renamed={"name": "trigger"},
                id="list_firings",
                tag="triggers",
                description="When the trigger fired, with which event, and which orders that made.",
                problems=(404, 422),
            )
        ),
    ),
    Operation(
        name="triggers.get",
        summary="Get a trigger, for trigger services",
        verb="get",
        kind="trigger",
        request=TriggerRef,
        answer=Definition,
        handler=get_trigger,
    ),
    Operation(
        name="triggers.due",
        summary="List the last due times of schedules",
        verb="list",
        kind="trigger",
        request=DueQuery,
        answer=DueReply,
        handler=last_due,
    ),
    Operation(
        name="triggers.next",
        summary="List the next due times of a schedule",
        verb="get",
        kind="trigger",
        request=NextQuery,
        answer=Listing,
        handler=next_due,
        routes=one(
            Route(
                method="GET",
                path="/triggers/{name}/next",
                id="next_due",
                tag="triggers",
                description="The next times, in UTC (`due`) and in the trigger's own time zone (`local`).",
                problems=(404, 409, 422),
            )
        ),
    ),
)
