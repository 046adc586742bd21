"""The table of `muster.api.<noun>.<verb>`: what each takes and answers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
from nats.aio.msg import Msg

from muster.blueprints.objects import ELEMENT, KIND, object_kinds
from muster.blueprints.suggest import did_you_mean
from muster.broker.api import agent_endpoints as agents
from muster.broker.api import manifests
from muster.broker.api import trigger_endpoints as triggers
from muster.broker.api.context import MOST_ITEMS, Api, idempotency_key, moment
from muster.broker.api.decode import decode
from muster.broker.api.endpoint import BY, endpoint
from muster.broker.api.health import info as info_of
from muster.broker.api.views import Listing, OrderListing, OrdersView, Preview
from muster.broker.query import OrderFilter
from muster.mesh.errors import InvalidError, Problem
from muster.mesh.jetstream import MSG_ID
from muster.mesh.model import (
    Mode,
    Order,
    OrderRequest,
    OrderState,
    Wire,
)

IDEMPOTENCY_KEY: Final = "Idempotency-Key"

Count = Annotated[int, msgspec.Meta(ge=1, le=MOST_ITEMS)]


class OrderRef(Wire):
    """Which order."""

    id: str


class OrderQuery(Wire):
    """Which orders to list."""

    state: OrderState | None = None
    element: str | None = None
    blueprint: str | None = None
    pool: str | None = None
    since: str | None = None
    """RFC 3339, or how long ago: `1h`."""
    parent: str | None = None
    limit: Count = 100
    cursor: str | None = None


class ObjectRef(Wire):
    """Which object."""

    kind: str
    name: str


class ObjectQuery(Wire):
    """Which objects to list."""

    kind: str
    where: str | None = None
    limit: Count = 100
    cursor: str | None = None


class ElementRef(Wire):
    """Which element."""

    element: str


class ModeChange(Wire):
    """Which element, and which mode it is to be in."""

    element: str
    mode: Mode


async def create_orders(api: Api, request: Msg) -> list[Order]:
    """Make work orders.  The hot path: one decode, one command, one encode."""
    wanted = decode(OrderRequest, request.data)
    return await api.commands.orders.create(wanted, by=BY, key=_key(request))


def _key(request: Msg) -> str | None:
    """What makes the request safe to repeat."""
    headers = request.headers
    return idempotency_key(headers.get(MSG_ID) or headers.get(IDEMPOTENCY_KEY)) if headers else None


def orders_view(orders: list[Order]) -> OrdersView:
    """The answer of `create_orders`."""
    return OrdersView(orders=orders)


async def preview_orders(api: Api, request: Msg) -> Preview:
    """What `create` would make."""
    return Preview(orders=await api.commands.orders.preview(decode(OrderRequest, request.data), by=BY))


async def get_order(api: Api, request: Msg) -> Order:
    """One order, by its id or a unique start of it."""
    return await api.query.order(decode(OrderRef, request.data).id)


async def list_orders(api: Api, request: Msg) -> OrderListing:
    """Orders, newest first."""
    asked = decode(OrderQuery, request.data or b"{}")
    fields = {**msgspec.structs.asdict(asked), "since": moment(asked.since, "since", now=datetime.now(UTC))}
    page = await api.query.orders(OrderFilter(**fields))
    return OrderListing(items=page.items, next=page.next)


async def cancel_order(api: Api, request: Msg) -> Order:
    """Stop an order."""
    order = await api.query.order(decode(OrderRef, request.data).id)
    return await api.commands.orders.cancel(order.id, by=BY, key=_key(request))


async def retry_order(api: Api, request: Msg) -> Order:
    """Let an ended order go on."""
    order = await api.query.order(decode(OrderRef, request.data).id)
    return await api.commands.orders.retry(order.id, by=BY, key=_key(request))


async def explain_order(api: Api, request: Msg) -> dict[str, Any]:
    """Why an order is as it is."""
    order = await api.query.order(decode(OrderRef, request.data).id)
    return await api.commands.orders.explain(order.id)


async def apply_objects(api: Api, request: Msg) -> manifests.Changes:
    """Create or change objects, from manifests."""
    return await manifests.apply(api.commands.objects, manifests.files(request.data), BY)


async def get_object(api: Api, request: Msg) -> dict[str, Any]:
    """One object; of the kind `element`, an element of whatever kind."""
    wanted = decode(ObjectRef, request.data)
    return await api.query.object(_readable(wanted.kind), wanted.name)


async def list_objects(api: Api, request: Msg) -> Listing:
    """Objects of one kind; `element` stands for every kind of element, `kind` for the kinds."""
    asked = decode(ObjectQuery, request.data)
    page = await api.query.objects(_readable(asked.kind), asked.where, asked.limit, asked.cursor)
    return Listing(items=list(page.items), next=page.next)


async def delete_object(api: Api, request: Msg) -> agents.Gone:
    """Delete one object."""
    wanted = decode(ObjectRef, request.data)
    await api.commands.objects.delete(_known(wanted.kind), wanted.name, by=BY)
    return agents.Gone()


def _readable(kind: str) -> str:
    return kind if kind in {ELEMENT, KIND} else _known(kind)


def _known(kind: str) -> str:
    kinds = object_kinds()
    if kind in kinds:
        return kind
    problem = Problem(message=f"there is no kind {kind!r}", path="kind", hint=did_you_mean(kind, kinds))
    raise InvalidError("something is wrong with the request", problem)


async def set_mode(api: Api, request: Msg) -> dict[str, Any]:
    """Switch an element's mode."""
    wanted = decode(ModeChange, request.data)
    return await api.commands.elements.set_mode(wanted.element, wanted.mode, by=BY)


async def drain(api: Api, request: Msg) -> dict[str, Any]:
    """Give an element nothing new."""
    return await api.commands.elements.set_drained(decode(ElementRef, request.data).element, drained=True, by=BY)


async def undrain(api: Api, request: Msg) -> dict[str, Any]:
    """Give an element work again."""
    return await api.commands.elements.set_drained(decode(ElementRef, request.data).element, drained=False, by=BY)


async def info(api: Api, request: Msg) -> dict[str, Any]:  # noqa: ARG001 - every endpoint takes the request
    """The broker, its version, and what it counts."""
    return info_of(await api.status())


ENDPOINTS: Final = (
    endpoint("orders", "create", create_orders, orders_view),
    endpoint("orders", "preview", preview_orders),
    endpoint("orders", "get", get_order),
    endpoint("orders", "list", list_orders),
    endpoint("orders", "cancel", cancel_order),
    endpoint("orders", "retry", retry_order),
    endpoint("orders", "explain", explain_order),
    endpoint("objects", "apply", apply_objects),
    endpoint("objects", "get", get_object),
    endpoint("objects", "list", list_objects),
    endpoint("objects", "delete", delete_object),
    endpoint("elements", "mode", set_mode),
    endpoint("elements", "drain", drain),
    endpoint("elements", "undrain", undrain),
    *triggers.ENDPOINTS,
    *agents.ENDPOINTS,
    endpoint("info", "", info),
)
