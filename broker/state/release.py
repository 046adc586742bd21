"""Which queued orders may go now, and why the others wait."""

from __future__ import annotations

from msgspec.structs import replace

from muster.broker.state.fleet import Fleet
from muster.mesh.model import Mode, Order, OrderState


def hindrance(order: Order, fleet: Fleet) -> str:
    """Why an order cannot be released yet, as a key of `table.WAITING`; empty if it can."""
    if order.not_before is not None:
        return "schedule"
    if order.element is not None:
        element = fleet.elements.get(order.element)
        if element is None:
            return "no matching element"
        if element.drained:
            return "drained"
        return "" if element.mode is Mode.WORK_ORDER else "mode"
    members = fleet.members.get(order.pool or "", set())
    if any(fleet.elements[name].takes_work for name in members):
        return ""
    if not members:
        return "no matching element"
    return "drained" if any(fleet.elements[name].drained for name in members) else "mode"


def settled(order: Order, fleet: Fleet) -> Order:
    """A queued order with its reason to wait, or offered."""
    if order.state is not OrderState.QUEUED:
        return order
    reason = hindrance(order, fleet)
    if reason:
        return order if order.reason == reason else replace(order, reason=reason)
    return replace(order, state=OrderState.OFFERED, reason="")
