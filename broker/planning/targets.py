"""The target of an order: one element, a pool, or what a filter matches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from heapq import nsmallest
from types import MappingProxyType
from typing import Final

from muster.blueprints.expressions import Filter
from muster.blueprints.suggest import closest
from muster.broker.state.world import World
from muster.mesh import names
from muster.mesh.errors import InvalidError, NotFoundError, Problem, RefusedError, UsageError
from muster.mesh.model import OrderRequest
from muster.mesh.structs import Wire


class Target(Wire):
    """One order's address."""

    element: str | None = None
    pool: str | None = None
    where: str | None = None
    """The filter that defines the pool, if it has no name."""


def chosen(
    request: OrderRequest,
    world: World,
    matching: Sequence[str] | None = None,
    planned: Mapping[str, int] = MappingProxyType({}),
) -> list[Target]:
    """One target for each order that the request asks for.

    Args:
        request: chooses the elements.
        world: the elements and what they do.
        matching: which elements its filter matches, if the filter does not say that alone; by name.
        planned: how many orders each element is about to have anyway.

    Raises:
        UsageError: not exactly one way to choose, or a count that makes no sense.
        InvalidError: the filter is not valid.
        NotFoundError: no such element or pool.
        RefusedError: too few elements match.
    """
    _check_form(request)
    if request.on is not None:
        if request.on not in world.elements:
            raise NotFoundError(f"there is no element {request.on!r}{suggestion(request.on, world.elements)}")
        return [Target(element=request.on)]
    if request.pool is not None:
        if ("pool", request.pool) not in world.objects.stored:
            known = [name for kind, name in world.objects.stored if kind == "pool"]
            raise NotFoundError(f"there is no pool {request.pool!r}{suggestion(request.pool, known)}")
        return [Target(pool=request.pool)]
    if request.queue:
        where = request.where or ""
        pool = names.queue_pool(where)
        if not world.pools.is_queue(pool):
            Filter(where)
        return [Target(pool=pool, where=where)]
    found = world.fleet.matching(request.where or "") if matching is None else matching
    return [Target(element=name) for name in _picked(request, found, world, planned)]


def _check_form(request: OrderRequest) -> None:
    ways = [way for way in ("on", "pool", "where") if getattr(request, way) is not None]
    if len(ways) != 1:
        said = f"got {' and '.join(ways)}" if ways else "got none"
        raise UsageError(f"name the target by exactly one of on (an element), pool, or where (a filter); {said}")
    amounts = [amount for amount in ("count", "all", "queue") if getattr(request, amount)]
    if request.count is not None and "count" not in amounts:
        amounts.append("count")
    if amounts and request.where is None:
        raise UsageError(f"{' and '.join(amounts)} {'goes' if len(amounts) == 1 else 'go'} with where")
    if len(amounts) > 1:
        raise UsageError(f"say only one of {' and '.join(amounts)}")
    if request.count is not None and request.count < 1:
        problem = Problem(message=f"{request.count} is less than 1", path="count")
        raise InvalidError("the request is not valid", problem)


def _picked(request: OrderRequest, found: Sequence[str], world: World, planned: Mapping[str, int]) -> Sequence[str]:
    """Matches by name; for a part of them, those that can start soonest come first."""
    wanted = len(found) if request.all else request.count or 1
    if not found or len(found) < wanted:
        few = f"only {len(found)} of {wanted} elements match" if found else "no element matches"
        raise RefusedError(f"{few} `{request.where}`; `muster get elements` lists the elements")
    if request.all:
        return found

    def readiness(name: str) -> tuple[bool, bool, int]:
        element = world.elements[name]
        return not element.takes_work, element.agent is None, len(world.held.by(name)) + planned.get(name, 0)

    if wanted == 1 and (idle := next((name for name in found if readiness(name) == _IDLE), None)) is not None:
        return (idle,)
    return nsmallest(wanted, found, key=readiness)


_IDLE: Final = (False, False, 0)


def suggestion(name: str, known: Iterable[object]) -> str:
    """Returns ` (did you mean …?)`, or nothing."""
    near = closest(name, map(str, known))
    return f"; did you mean {near!r}?" if near else ""
