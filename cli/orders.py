"""`muster orders`, `muster cancel`, `muster retry`: work orders, many or one."""

from __future__ import annotations

from typing import Annotated, Any, Final

from cyclopts import Parameter

from muster.cli.candidates import of_elements
from muster.cli.options import COMMON, AnyOrder, Common
from muster.cli.output import Column, age, document, say, show, table, took
from muster.mesh.model import OrderState

PAGE: Final = 50

SHORT: Final = 10
"""Characters of an id in tables: unique among a million orders, and any unique start will do."""


def target(order: dict[str, Any]) -> str:
    """Returns an order's target: its element, or the pool that it waits in."""
    return order.get("element") or (f"pool {order['pool']}" if order.get("pool") else "-")


COLUMNS: Final = (
    Column(title="ORDER", value=lambda order: order["id"][:SHORT]),
    Column(title="BLUEPRINT", value=lambda order: order["blueprint"]),
    Column(title="FOR", value=target),
    Column(title="STATE", value=lambda order: order["state"]),
    Column(title="REASON", value=lambda order: order.get("reason"), optional=1, flexible=True),
    Column(title="TOOK", value=lambda order: took(order.get("started_at"), order.get("finished_at")), optional=2),
    Column(title="AGE", value=lambda order: age(order.get("created_at"))),
)


def orders(
    *,
    state: Annotated[OrderState | None, Parameter(help="Only orders in this state.")] = None,
    element: Annotated[str | None, Parameter(help="Only orders for this element.", completer=of_elements)] = None,
    blueprint: Annotated[str | None, Parameter(help="Only orders made from this blueprint.")] = None,
    since: Annotated[str | None, Parameter(help="Only orders made since: 1h, 2d, or a time (RFC 3339).")] = None,
    limit: Annotated[int, Parameter(help="The most to show.", show_default=True)] = PAGE,
    common: Common = COMMON,
) -> None:
    """List work orders, newest first."""
    with common.connect() as api:
        page = api.items("/api/v1/orders", limit=limit, state=state, element=element, blueprint=blueprint, since=since)
    show(page, common.output, lambda: table(page["items"], COLUMNS, empty="no orders"))
    if page["next"] and common.output == "table":
        say((f"there are more than {limit}; --limit shows them", "dim"), errors=True)


def cancel(order: AnyOrder, /, *, common: Common = COMMON) -> None:
    """Stop an order: at once if it waits, otherwise once its agent has ended the task."""
    _report(_post(common, order, "cancel"), common)


def retry(order: AnyOrder, /, *, common: Common = COMMON) -> None:
    """Retry a failed or cancelled order: it continues at its first unfinished task."""
    _report(_post(common, order, "retry"), common)


def one(order: str, common: Common) -> None:
    """Print one order as a row of the list."""
    from muster.cli.api import segment

    with common.connect() as api:
        found = api.get(f"/api/v1/orders/{segment(order)}")
    show(found, common.output, lambda: table([found], COLUMNS))


def _post(common: Common, order: str, verb: str) -> Any:
    from muster.cli.api import segment

    with common.connect() as api:
        return api.post(f"/api/v1/orders/{segment(order)}/{verb}")


def _report(order: dict[str, Any], common: Common) -> None:
    if common.output != "table":
        document(order, common.output)
        return
    reason = f" ({order['reason']})" if order.get("reason") else ""
    say(f"order {order['id']} is ", (order["state"], "bold"), reason)
