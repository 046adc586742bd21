"""`/api/v1/orders`: make, list, look at, stop and continue work orders."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any

from litestar import Response, Router, get, post
from litestar.openapi import ResponseSpec
from litestar.params import Parameter

from muster.broker.api.context import (
    PREFIX,
    AnyRequest,
    ApiDependency,
    Cursor,
    DryRun,
    Limit,
    OrderId,
    idempotency_key,
    moment,
)
from muster.broker.api.decode import decode
from muster.broker.api.views import JobListing, Listing, OrderListing, OrdersView, Preview
from muster.broker.query import OrderFilter
from muster.mesh.caller import Caller
from muster.mesh.model import Order, OrderRequest, OrderState

BY = Caller(door="http")
"""Who asks, until there are users: whoever has the token."""

IdempotencyKey = Annotated[
    str | None,
    Parameter(header="Idempotency-Key", description="Makes the request safe to repeat: the same key, one effect."),
]

LONGEST_WAIT = 300.0
"""Seconds that one request may wait for an order's end."""


@post(
    "/",
    summary="Make work orders",
    description="From a blueprint, for one element (`on`), for whichever member of a pool is free (`pool`), or for "
    "the elements that a CEL filter matches (`where`, with `count` or `all`).",
    responses={200: ResponseSpec(Preview, generate_examples=False, description="What would be made (`dry_run`).")},
    opt={"body": "OrderRequest", "problems": (400, 404, 409, 413, 422, 503)},
)
async def create_orders(
    request: AnyRequest,
    api: ApiDependency,
    key: IdempotencyKey = None,
    dry_run: DryRun = False,
) -> Response[OrdersView]:
    """Make work orders."""
    wanted = decode(OrderRequest, await request.body())
    if dry_run:
        preview: Response[Any] = Response(
            Preview(orders=await api.commands.orders.preview(wanted, by=BY)), status_code=200
        )
        return preview
    orders = await api.commands.orders.create(wanted, by=BY, key=idempotency_key(key))
    return Response(OrdersView(orders=orders), status_code=201)


@get("/", summary="List work orders, newest first", opt={"problems": (422,)})
async def list_orders(  # noqa: PLR0913, PLR0917 - one argument a query parameter: that is how Litestar documents them
    api: ApiDependency,
    of_state: Annotated[OrderState | None, Parameter(query="state", description="Only orders in this state.")] = None,
    element: Annotated[str | None, Parameter(description="Only orders for this element.")] = None,
    blueprint: Annotated[str | None, Parameter(description="Only orders made from this blueprint.")] = None,
    since: Annotated[str | None, Parameter(description="Only orders made since: RFC 3339, or how long ago.")] = None,
    pool: Annotated[str | None, Parameter(description="Only orders of this pool.")] = None,
    parent: Annotated[str | None, Parameter(description="Only child orders of this one.")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> OrderListing:
    """List work orders, newest first."""
    wanted = OrderFilter(
        state=of_state,
        element=element,
        blueprint=blueprint,
        since=moment(since, "since", now=datetime.now(UTC)),
        pool=pool,
        parent=parent,
        limit=limit,
        cursor=cursor,
    )
    page = await api.query.orders(wanted)
    return OrderListing(items=page.items, next=page.next)


@get("/{order:str}", summary="One work order", opt={"problems": (404, 409)})
async def get_order(
    order: OrderId,
    api: ApiDependency,
    wait: Annotated[
        float,
        Parameter(ge=0, le=LONGEST_WAIT, description="Answer when the order is final, at the latest after so many s."),
    ] = 0.0,
) -> Order:
    """One work order; with `wait`, once it is final or the time has passed."""
    found = await api.query.order(order)
    if wait and not found.is_final:
        try:
            async with asyncio.timeout(wait):
                found = await api.finals.final(found.id)
        except TimeoutError:
            found = await api.query.order(found.id)
    return found


@get("/{order:str}/jobs", summary="An order's jobs", opt={"problems": (404, 409)})
async def get_jobs(order: OrderId, api: ApiDependency) -> JobListing:
    """The runs of the order's tasks."""
    return JobListing(items=list((await api.query.order(order)).jobs))


@get("/{order:str}/history", summary="An order's records, from the log", opt={"problems": (404, 409)})
async def get_history(order: OrderId, api: ApiDependency) -> Listing:
    """Everything that happened to the order: who did what, when."""
    found = await api.query.order(order)
    return Listing(items=list(await api.query.history(found)))


@get("/{order:str}/explain", summary="Why an order is as it is", opt={"problems": (404, 409)})
async def explain_order(order: OrderId, api: ApiDependency) -> dict[str, Any]:
    """Where each input came from, what the order waits for, or why it failed."""
    found = await api.query.order(order)
    return await api.commands.orders.explain(found.id)


@post("/{order:str}/cancel", status_code=200, summary="Stop an order", opt={"problems": (404, 409, 503)})
async def cancel_order(order: OrderId, api: ApiDependency, key: IdempotencyKey = None) -> Order:
    """Stop the order: at once if it waits, else as soon as its agent has ended the task."""
    found = await api.query.order(order)
    return await api.commands.orders.cancel(found.id, by=BY, key=idempotency_key(key))


@post("/{order:str}/retry", status_code=200, summary="Let an ended order go on", opt={"problems": (404, 409, 503)})
async def retry_order(order: OrderId, api: ApiDependency, key: IdempotencyKey = None) -> Order:
    """Let a failed or cancelled order go on at its first unfinished task."""
    found = await api.query.order(order)
    return await api.commands.orders.retry(found.id, by=BY, key=idempotency_key(key))


def router(*more: Any) -> Router:
    """All of it."""
    return Router(
        path=f"{PREFIX}/orders",
        route_handlers=[
            create_orders,
            list_orders,
            get_order,
            get_jobs,
            get_history,
            explain_order,
            cancel_order,
            retry_order,
            *more,
        ],
        tags=["orders"],
    )
