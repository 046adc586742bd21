"""What can be asked about work orders: create, list, read, cancel, retry."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec

from muster.broker.operations.answers import JobListing, Listing, OrderListing, OrdersView, Preview
from muster.broker.operations.fields import Cursor, DryRun, Limit, moment
from muster.broker.operations.operation import Call, Operation, Route, one
from muster.broker.query import OrderFilter
from muster.mesh.model import Order, OrderRequest, OrderState
from muster.mesh.structs import Wire

MAX_WAIT: Final = 300.0
"""Seconds that one request may wait for an order's end."""

OrderId = Annotated[str, msgspec.Meta(description="The order's id, or as much of its start as no other order has.")]


class OrderRef(Wire):
    """Which order."""

    id: OrderId


class OrderWait(OrderRef):
    """Which order, and how long to wait for its end."""

    wait: Annotated[
        float,
        msgspec.Meta(
            ge=0, le=MAX_WAIT, description="Answer when the order is final, after so many seconds at the latest."
        ),
    ] = 0.0


class OrderQuery(Wire):
    """Which orders to list."""

    state: Annotated[OrderState | None, msgspec.Meta(description="Only orders in this state.")] = None
    element: Annotated[str | None, msgspec.Meta(description="Only orders for this element.")] = None
    blueprint: Annotated[str | None, msgspec.Meta(description="Only orders made from this blueprint.")] = None
    since: Annotated[
        str | None, msgspec.Meta(description="Only orders made since: RFC 3339, or how long ago (`1h`).")
    ] = None
    pool: Annotated[str | None, msgspec.Meta(description="Only orders of this pool.")] = None
    parent: Annotated[str | None, msgspec.Meta(description="Only child orders of this one.")] = None
    limit: Limit = 100
    cursor: Cursor = None


async def create(call: Call, request: OrderRequest) -> OrdersView:
    """The hot path: one plan, one append, one answer."""
    return OrdersView(orders=await call.services.orders.create(request, by=call.caller, key=call.key))


async def preview(call: Call, request: OrderRequest) -> Preview:
    """What `create` would make."""
    return Preview(orders=await call.services.orders.preview(request, by=call.caller))


async def read(call: Call, request: OrderRef) -> Order:
    """One order."""
    return await call.services.query.order(request.id)


async def wait(call: Call, request: OrderWait) -> Order:
    """One order, once it is final or the time has passed."""
    query = call.services.query
    found = await query.order(request.id)
    if request.wait and not found.is_final:
        try:
            async with asyncio.timeout(request.wait):
                found = await call.services.finals.final(found.id)
        except TimeoutError:
            found = await query.order(found.id)
    return found


async def find(call: Call, request: OrderQuery) -> OrderListing:
    """One page of orders, newest first."""
    fields = msgspec.structs.asdict(request)
    fields["since"] = moment(request.since, "since", now=datetime.now(UTC))
    page = await call.services.query.orders(OrderFilter(**fields))
    return OrderListing(items=page.items, next=page.next)


async def jobs(call: Call, request: OrderRef) -> JobListing:
    """The runs of the order's tasks."""
    return JobListing(items=list((await call.services.query.order(request.id)).jobs))


async def history(call: Call, request: OrderRef) -> Listing:
    """The order's records."""
    query = call.services.query
    return Listing(items=list(await query.history(await query.order(request.id))))


async def explain(call: Call, request: OrderRef) -> dict[str, Any]:
    """Why an order is as it is."""
    return await call.services.orders.explain(request.id)


async def cancel(call: Call, request: OrderRef) -> Order:
    """Stop an order."""
    return await call.services.orders.cancel(request.id, by=call.caller, key=call.key)


async def retry(call: Call, request: OrderRef) -> Order:
    """Continue an order that has ended."""
    return await call.services.orders.retry(request.id, by=call.caller, key=call.key)


def _order(method: Any, verb: str, ident: str, description: str, **more: Any) -> Any:
    """Where HTTP serves what concerns one order."""
    return one(
        Route(
            method=method,
            path=f"/orders/{{order}}{verb}",
            renamed={"order": "id"},
            id=ident,
            tag="orders",
            description=description,
            problems=(404, 409, 503) if method == "POST" else (404, 409),
            **more,
        )
    )


PREVIEW: Final = Operation(
    name="orders.preview",
    summary="Preview the work orders that a request would create",
    verb="run",
    kind="blueprint",
    request=OrderRequest,
    answer=Preview,
    handler=preview,
)

OPERATIONS: Final = (
    Operation(
        name="orders.create",
        summary="Create work orders",
        verb="run",
        kind="blueprint",
        request=OrderRequest,
        answer=OrdersView,
        handler=create,
        routes=one(
            Route(
                method="POST",
                path="/orders",
                id="create_orders",
                tag="orders",
                description="From a blueprint, for one element (`on`), for whichever member of a pool is free "
                "(`pool`), or for the elements that a CEL filter matches (`where`, with `count` or `all`).",
                body="OrderRequest",
                example={"blueprint": "heartbeat", "on": "web01", "inputs": {"disk_limit": 80}},
                query=DryRun,
                dry_run=PREVIEW,
                idempotent=True,
                status=201,
                problems=(400, 404, 409, 413, 422, 503),
            )
        ),
    ),
    PREVIEW,
    Operation(
        name="orders.get",
        summary="Get an order by its id, or by a unique prefix",
        verb="get",
        kind="order",
        request=OrderRef,
        answer=Order,
        handler=read,
    ),
    Operation(
        name="orders.wait",
        summary="Get a work order",
        verb="get",
        kind="order",
        request=OrderWait,
        answer=Order,
        handler=wait,
        routes=_order("GET", "", "get_order", "With `wait`, once it is final or the time has passed."),
        on_nats=False,  # a request that waits would hold one of the places that all requests share
    ),
    Operation(
        name="orders.list",
        summary="List work orders, newest first",
        verb="list",
        kind="order",
        request=OrderQuery,
        answer=OrderListing,
        handler=find,
        routes=one(Route(method="GET", path="/orders", id="list_orders", tag="orders", problems=(422,))),
    ),
    Operation(
        name="orders.jobs",
        summary="List the jobs of an order",
        verb="get",
        kind="order",
        request=OrderRef,
        answer=JobListing,
        handler=jobs,
        routes=_order("GET", "/jobs", "get_jobs", "The runs of the order's tasks."),
        on_nats=False,  # an order has its jobs with it
    ),
    Operation(
        name="orders.history",
        summary="List the records of an order, from the log",
        verb="get",
        kind="order",
        request=OrderRef,
        answer=Listing,
        handler=history,
        routes=_order("GET", "/history", "get_history", "Everything that happened to the order: who did what, when."),
        on_nats=False,  # `explain` has it
    ),
    Operation(
        name="orders.explain",
        summary="Explain the state of an order",
        verb="get",
        kind="order",
        request=OrderRef,
        answer=dict[str, Any],
        handler=explain,
        routes=_order(
            "GET",
            "/explain",
            "explain_order",
            "Where each input came from, what the order waits for, or why it failed.",
        ),
    ),
    Operation(
        name="orders.cancel",
        summary="Cancel an order",
        verb="cancel",
        kind="order",
        request=OrderRef,
        answer=Order,
        handler=cancel,
        routes=_order(
            "POST",
            "/cancel",
            "cancel_order",
            "At once if it waits, otherwise as soon as its agent has stopped the task.",
            idempotent=True,
        ),
    ),
    Operation(
        name="orders.retry",
        summary="Retry a failed or cancelled order",
        verb="retry",
        kind="order",
        request=OrderRef,
        answer=Order,
        handler=retry,
        routes=_order(
            "POST",
            "/retry",
            "retry_order",
            "A failed or cancelled order continues at its first unfinished task.",
            idempotent=True,
        ),
    ),
)
