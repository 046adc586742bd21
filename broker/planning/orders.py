"""From a request to the records of its orders: the blueprint is pinned, targets chosen, inputs resolved and checked."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

from muster.blueprints.resolve import given
from muster.broker.planning.blueprints import Blueprints, resolve_inputs
from muster.broker.planning.targets import chosen
from muster.broker.state.world import World
from muster.mesh import records
from muster.mesh.caller import Caller
from muster.mesh.errors import InvalidError, Problem, RefusedError
from muster.mesh.model import OrderRequest, OrderState
from muster.mesh.moment import in_utc

MAX_ORDERS: Final = 1000
"""Orders of one request: they are written in one atomic batch, and nats-server takes no larger one (ADR-50)."""

MAX_DEPTH: Final = 16
"""The most orders above one another; a blueprint that orders itself by a detour ends here."""


def plan_orders(
    world: World, blueprints: Blueprints, request: OrderRequest, *, by: Caller, id_of: Callable[[int], str]
) -> list[records.Created]:
    """Returns a record for each order that a request asks for.

    Args:
        world: the elements, and what they do.
        blueprints: the world's.
        request: what, on which elements, with which inputs.
        by: who asks, for the record.
        id_of: gives the id of the nth order.

    Raises:
        NotFoundError: no such blueprint, element or pool.
        InvalidError: the inputs break the blueprint's schema; every problem is listed.
        RefusedError: nothing matches, too many elements match, or the parent has ended.
    """
    pinned = blueprints.pin(request.blueprint)
    targets = chosen(request, world)
    if len(targets) > MAX_ORDERS:
        raise RefusedError(
            f"{len(targets)} elements match, and one request makes at most {MAX_ORDERS} orders, all or none; "
            "ask for parts by narrower filters, or fire a trigger with this target, which has no limit"
        )
    depth, chain = _depth(world, request)
    not_before = request.not_before and _in_utc(request.not_before)
    wanted = given(pinned.blueprint, request.inputs, request.texts, from_templates=request.parent is not None)
    planned = []
    for place, target in enumerate(targets):
        inputs = resolve_inputs(world, pinned, wanted, target)
        planned.append(
            records.Created(
                order=id_of(place),
                blueprint=request.blueprint,
                version=pinned.version,
                digest=pinned.digest,
                element=target.element,
                pool=target.pool,
                inputs=inputs.inputs,
                sources=inputs.sources,
                not_before=not_before,
                labels=request.labels,
                parent=request.parent,
                depth=depth,
                chain=chain,
                where=target.where,
                has_on_failure=bool(pinned.blueprint.on_failure),
                has_always=bool(pinned.blueprint.always),
                by=by,
            )
        )
    return planned


def _depth(world: World, request: OrderRequest) -> tuple[int, int]:
    """Returns how many orders are above it, and how many firings."""
    if request.parent is None:
        return 0, 0
    parent = world.orders.get(request.parent)
    if parent is None or parent.state is OrderState.CANCELLING:
        raise RefusedError(f"the parent order {request.parent} has ended, or is being cancelled")
    if parent.depth >= MAX_DEPTH:
        raise RefusedError(f"{MAX_DEPTH} orders are above one another already; do blueprints order each other?")
    return parent.depth + 1, parent.chain


def _in_utc(not_before: datetime) -> datetime:
    try:
        return in_utc(not_before)
    except ValueError as error:
        raise InvalidError("the request is not valid", Problem(message=str(error), path="not_before")) from None
