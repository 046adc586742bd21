"""Whom an order is for: one element, a pool, or what a filter matches."""

from __future__ import annotations

from difflib import get_close_matches

from muster.blueprints.expressions import Filter
from muster.broker.state.machine import State
from muster.mesh.errors import InvalidError, NotFoundError, Problem, RefusedError, UsageError
from muster.mesh.model import OrderRequest, Wire


class Target(Wire):
    """One order's address."""

    element: str | None = None
    pool: str | None = None


def chosen(request: OrderRequest, state: State) -> list[Target]:
    """One target for each order that the request asks for.

    Raises:
        UsageError: not exactly one way to choose, or a count that makes no sense.
        InvalidError: the filter is not valid.
        NotFoundError: no such element or pool.
        RefusedError: too few elements match.
    """
    _check_form(request)
    if request.on is not None:
        if request.on not in state.fleet.elements:
            raise NotFoundError(f"there is no element {request.on!r}{suggestion(request.on, state.fleet.elements)}")
        return [Target(element=request.on)]
    if request.pool is not None:
        if request.pool not in state.fleet.members:
            raise NotFoundError(f"there is no pool {request.pool!r}{suggestion(request.pool, state.fleet.members)}")
        return [Target(pool=request.pool)]
    return [Target(element=name) for name in _matching(request, state)]


def _check_form(request: OrderRequest) -> None:
    ways = [way for way in ("on", "pool", "where") if getattr(request, way) is not None]
    if len(ways) != 1:
        said = f"got {' and '.join(ways)}" if ways else "got none"
        raise UsageError(f"say for whom: exactly one of on (an element), pool, or where (a filter); {said}")
    if (request.count is not None or request.all) and request.where is None:
        raise UsageError("count and all go with where")
    if request.count is not None and request.all:
        raise UsageError("say count or all, not both")
    if request.count is not None and request.count < 1:
        problem = Problem(message=f"{request.count} is less than 1", path="count")
        raise InvalidError("the request is not valid", problem)


def _matching(request: OrderRequest, state: State) -> list[str]:
    """Matches by name; for a part of them, those that can start soonest come first."""
    chosen_by = Filter(request.where or "")
    names = sorted(name for name in state.fleet.elements if chosen_by.matches(state.fleet.view(name)))
    if request.all:
        wanted = len(names)
    else:
        wanted = request.count or 1
        names.sort(key=lambda name: _readiness(name, state))
    if not names or len(names) < wanted:
        found = f"only {len(names)} of {wanted} elements match" if names else "no element matches"
        raise RefusedError(f"{found}: {request.where}", Problem(message="see `muster get machine`", path="where"))
    return names[:wanted]


def _readiness(name: str, state: State) -> tuple[bool, bool, int]:
    element = state.fleet.elements[name]
    return not element.takes_work, element.agent is None, len(state.shelves.held(name))


def suggestion(name: str, known: object) -> str:
    """` (did you mean …?)`, or nothing."""
    close = get_close_matches(name, [str(it) for it in known], n=1)  # type: ignore[attr-defined]
    return f"; did you mean {close[0]!r}?" if close else ""
