"""Why nobody has started an order that is offered: asked when somebody looks, from the state as it is then."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from muster.broker.state.order import is_held
from muster.broker.state.table import WAITING
from muster.mesh.model import Order, OrderState

if TYPE_CHECKING:
    from datetime import datetime

    from muster.broker.state.element import Element
    from muster.broker.state.machine import State

MOST_NAMED: Final = 3
"""Orders named that hold slots."""

SHORT: Final = 10
"""Characters of an id, as tables have them."""


def reason_of(order: Order, state: State) -> str:
    """The order's reason; of one that is offered, with what keeps its element or pool from starting it."""
    if order.state is not OrderState.OFFERED:
        return order.reason
    why = _why_element(order.element, state) if order.element is not None else _why_pool(order, state)
    if not why or not order.reason:
        return why or order.reason
    return f"{order.reason}; its clean-up waits: {why}"


def _why_element(name: str, state: State) -> str:
    element = state.fleet.elements.get(name)
    if element is None:
        return WAITING["no matching element"]
    if element.agent is None:
        return f"its agent is offline since {_text(element.since)}" if element.last else f"{name} never had an agent"
    if not element.takes_work:
        return WAITING["drained" if element.drained else "mode"]
    busy = _busy(name, state)
    slots = _slots(name, state)
    return f"{len(busy)} of {slots} slots of {name} are busy: {_named(busy)}" if len(busy) >= slots else ""


def _why_pool(order: Order, state: State) -> str:
    fleet = state.fleet
    members = [fleet.elements[name] for name in sorted(fleet.members.get(order.pool or "", ()))]
    pool = f"pool {order.pool}" if order.where is None else f"`{order.where}`"
    if not members:
        return f"no element matches {pool}"
    online = [element for element in members if element.agent is not None]
    if not online:
        return f"all agents of {pool} are offline ({_counted(members)}){_last_seen(members)}"
    taking = [element for element in online if element.takes_work]
    if not taking:
        return f"no element of {pool} that is online takes work ({_counted(online)}): drained, or in workflow mode"
    busy = [ident for element in taking for ident in _busy(element.name, state)]
    if any(len(_busy(element.name, state)) < _slots(element.name, state) for element in taking):
        return ""
    slots = sum(_slots(element.name, state) for element in taking)
    return f"{len(busy)} of {slots} slots of {pool} are busy: {_named(busy)}"


def _busy(element: str, state: State) -> list[str]:
    return [ident for ident in state.shelves.held(element) if is_held(state.orders[ident])]


def _slots(element: str, state: State) -> int:
    manifest = state.fleet.manifest_of(element)
    return manifest.slots if manifest is not None else 1


def _last_seen(members: Iterable[Element]) -> str:
    seen = [(element.since, element.name) for element in members if element.last and element.since is not None]
    if not seen:
        return ""
    since, name = max(seen)
    return f"; the last one was {name}, until {_text(since)}"


def _counted(elements: list[Element]) -> str:
    return f"{len(elements)} element{'s' if len(elements) > 1 else ''}"


def _named(orders: list[str]) -> str:
    more = f" and {len(orders) - MOST_NAMED} more" if len(orders) > MOST_NAMED else ""
    return f"order {', '.join(ident[:SHORT] for ident in orders[:MOST_NAMED])}{more}"


def _text(time: datetime | None) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%SZ}" if time is not None else "its start"
