"""Why orders wait: for each reason, in one place, its words, the rule that finds it, what ends it and who releases it.

A queued order waits for the first reason whose rule finds something in its way.  Why nobody has started an order that
is offered is worked out when somebody asks, from the world as it is then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from muster.broker.state.element import Element
from muster.broker.state.order import is_held
from muster.broker.state.topics import LANE, ORDER, POOL, WORK
from muster.mesh.model import Order, OrderState
from muster.mesh.records import Due
from muster.mesh.waiting import (
    Children,
    Drained,
    Lane,
    NoAgent,
    NoElement,
    NoSlot,
    Schedule,
    Silent,
    Until,
    Waiting,
    WorkflowMode,
)

if TYPE_CHECKING:
    from muster.broker.state.world import World

MOST_NAMED: Final = 3
"""Orders named that hold slots."""

SHORT: Final = 10
"""Characters of an id, as tables have them."""


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """One reason to wait."""

    code: str
    """What lists show."""
    meaning: str
    """Without an order, for the documentation."""
    words: Callable[[Any], str]
    """Of one order."""
    ends: str
    """What ends the wait, and what a person can do about it."""
    released_by: tuple[str, ...]
    """The topics of the worklist, and the records, after which the order is processed again."""


def _orders(idents: Iterable[str], count: int) -> str:
    named = [ident[:SHORT] for ident in idents][:MOST_NAMED]
    return f"order {', '.join(named)}" + (f" and {count - len(named)} more" if count > len(named) else "")


def _text(time: datetime | None) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%SZ}" if time is not None else "its start"


def _children(waiting: Children) -> str:
    which = _orders(waiting.ids, len(waiting.ids)) if waiting.ids else "its child orders"
    return f"it waits for {which}" + (f", until {_text(waiting.at)} at the latest" if waiting.at else "")


def _no_agent(waiting: NoAgent) -> str:
    if waiting.elements > 1 or not waiting.target.startswith("element "):
        last = f"; the last one was {waiting.last}, until {_text(waiting.since)}" if waiting.last else ""
        return f"all agents of {waiting.target} are offline ({_counted(waiting.elements)}){last}"
    name = waiting.target.partition(" ")[2]
    return f"its agent is offline since {_text(waiting.since)}" if waiting.last else f"{name} never had an agent"


def _no_slot(waiting: NoSlot) -> str:
    target = waiting.target.removeprefix("element ")
    before = waiting.place - 1
    line = f"; {before} order{'s are' if before > 1 else ' is'} before it" if before else ""
    held = _orders(waiting.orders, len(waiting.orders))
    return f"{len(waiting.orders)} of {waiting.slots} slots of {target} are busy: {held}{line}"


def _lane(waiting: Lane) -> str:
    count = f"{waiting.limit} order{'s' if waiting.limit > 1 else ''}"
    return f"{count} of {waiting.name.replace('/', ' ', 1)} may be under way at a time (`max_open`)"


def _counted(elements: int) -> str:
    return f"{elements} element{'s' if elements > 1 else ''}"


REASONS: Final[dict[type[Waiting], Reason]] = {
    Schedule: Reason(
        code="schedule",
        meaning="its time has not come",
        words=lambda waiting: f"its time has not come; it starts at {_text(waiting.at)}",
        ends="the time that `not_before` says",
        released_by=(Due.__name__,),
    ),
    Until: Reason(
        code="until",
        meaning="its suspended task continues at a time",
        words=lambda waiting: f"it waits until {_text(waiting.at)}{f' {waiting.why}' if waiting.why else ''}",
        ends="the time that its task has asked for",
        released_by=(Due.__name__,),
    ),
    Children: Reason(
        code="children",
        meaning="its child orders have not ended",
        words=_children,
        ends="the end of its child orders",
        released_by=(ORDER, Due.__name__),
    ),
    NoElement: Reason(
        code="no matching element",
        meaning="no element that may run it is there",
        words=lambda _: "no element that may run it is there",
        ends="an element of that name, or one that the pool's filter matches; see `muster get elements`",
        released_by=(WORK, POOL),
    ),
    Drained: Reason(
        code="drained",
        meaning="its element takes nothing new",
        words=lambda _: "its element takes nothing new",
        ends="`muster undrain ELEMENT`",
        released_by=(WORK, POOL),
    ),
    WorkflowMode: Reason(
        code="mode",
        meaning="its element is in workflow mode",
        words=lambda _: "its element is in workflow mode",
        ends="`muster mode ELEMENT work_order`",
        released_by=(WORK, POOL),
    ),
    Lane: Reason(
        code="overlap",
        meaning="its trigger has as many orders under way as it may (`max_open`)",
        words=_lane,
        ends="the end of one of these orders, or a larger `max_open`",
        released_by=(LANE, WORK, POOL),
    ),
    NoAgent: Reason(
        code="offline",
        meaning="it is offered, and every agent that could claim it is offline",
        words=_no_agent,
        ends="a claim, as soon as one of these agents is online",
        released_by=("Claimed",),
    ),
    NoSlot: Reason(
        code="busy",
        meaning="it is offered, and every slot of those that could claim it is taken",
        words=_no_slot,
        ends="a claim, as soon as one of these orders leaves its slot",
        released_by=("Claimed",),
    ),
    Silent: Reason(
        code="silent",
        meaning="it runs, and its agent is offline",
        words=lambda waiting: f"the agent of {waiting.element} is offline since {_text(waiting.since)}",
        ends="the return of its agent, or the end of its lease: then the order is lost, and offered again",
        released_by=("Lost",),
    ),
}
"""Every reason there is."""


def code_of(waiting: Waiting) -> str:
    """Returns what lists show of a reason to wait."""
    return REASONS[type(waiting)].code


def words_of(waiting: Waiting) -> str:
    """Returns a reason to wait in words."""
    return REASONS[type(waiting)].words(waiting)


# -- of a queued order ----------------------------------------------------------------------------


def hindrance(order: Order, world: World) -> Waiting | None:
    """Returns why an order cannot be released yet; None if it can."""
    if isinstance(order.waiting, Schedule):
        return order.waiting
    return _nobody_takes_it(order, world) or world.lanes.blocks(order)


def _nobody_takes_it(order: Order, world: World) -> Waiting | None:
    names = (order.runner,) if order.runner is not None else world.pools.members.get(order.pool or "", ())
    found = drained = False
    for name in names:
        element = world.elements.get(name)
        if element is None:
            continue
        if element.takes_work:
            return None
        found, drained = True, drained or element.drained
    if not found:
        return NoElement()
    return Drained() if drained else WorkflowMode()


# -- of an offered order --------------------------------------------------------------------------


def waiting_of(order: Order, world: World) -> Waiting | None:
    """Returns why nothing happens to an order just now; at agents, from what is known of these now."""
    if is_held(order):
        return _silent(world.elements.get(order.runner or ""))
    if order.state is not OrderState.OFFERED:
        return order.waiting
    names = [order.runner] if order.runner is not None else sorted(world.pools.members.get(order.pool or "", ()))
    elements = [world.elements[name] for name in names if name in world.elements]
    if not elements:
        return NoElement()
    online = [element for element in elements if element.agent is not None]
    target = _target(order)
    if not online:
        return _offline(target, elements)
    taking = [element for element in online if element.takes_work]
    if not taking:
        return Drained() if any(element.drained for element in online) else WorkflowMode()
    return _busy(order, target, [element.name for element in taking], world)


def _silent(element: Element | None) -> Silent | None:
    """Returns that the agent of a running order is offline; None if it is not."""
    if element is None or element.agent is not None:
        return None
    return Silent(element=element.name, since=element.since)


def _target(order: Order) -> str:
    if order.runner is not None:
        return f"element {order.runner}"
    return f"pool {order.pool}" if order.where is None else f"`{order.where}`"


def _offline(target: str, elements: list[Element]) -> NoAgent:
    seen = [(element.since, element.name) for element in elements if element.last and element.since is not None]
    since, last = max(seen) if seen else (None, "")
    return NoAgent(target=target, elements=len(elements), last=last, since=since)


def _busy(order: Order, target: str, names: list[str], world: World) -> NoSlot | None:
    """What holds the slots; None if one is free, so that a claim is about to come."""
    busy: list[str] = []
    slots = 0
    for name in names:
        held, its = world.held.running_on(name, world.orders), world.fleet.slots(name)
        if len(held) < its:
            return None
        busy += held
        slots += its
    return NoSlot(target=target, slots=slots, orders=tuple(busy), place=world.held.place_of(order))
