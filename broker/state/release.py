"""Which queued orders may go now, and why the others wait."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from muster.broker.state.fleet import Fleet
from muster.broker.state.lines import OVERLAP, Triggers
from muster.mesh.model import Order, OrderState


def hindrance(order: Order, fleet: Fleet, triggers: Triggers) -> str:
    """Why an order cannot be released yet, as a key of `table.WAITING`; empty if it can."""
    return _nobody_to_run_it(order, fleet) or (OVERLAP if triggers.is_full(order) else "")


def _nobody_to_run_it(order: Order, fleet: Fleet) -> str:
    if order.not_before is not None:
        return "schedule"
    names: Iterable[str] = (order.element,) if order.element is not None else fleet.members.get(order.pool or "", ())
    found = drained = False
    for name in names:
        element = fleet.elements.get(name)
        if element is None:
            continue
        if element.takes_work:
            return ""
        found, drained = True, drained or element.drained
    if not found:
        return "no matching element"
    return "drained" if drained else "mode"


def settled(order: Order, fleet: Fleet, triggers: Triggers) -> Order:
    """A queued order with its reason to wait, or offered."""
    if order.state is not OrderState.QUEUED:
        return order
    reason = hindrance(order, fleet, triggers)
    if reason:
        return order if order.reason == reason else replace(order, reason=reason)
    return replace(order, state=OrderState.OFFERED, reason=order.cancelled or order.failing)
