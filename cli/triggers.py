"""`muster fire`, `muster next`, `muster firings`: a trigger by hand, its times to come, and what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import Parameter

from muster.cli import files
from muster.cli.options import COMMON, PLAIN, Common, seconds
from muster.cli.orders import SHORT
from muster.cli.output import Column, age, clock, document, fields, say, show, table, until
from muster.cli.output import plain as in_one_line
from muster.mesh.errors import RefusedError

if TYPE_CHECKING:
    from muster.cli.api import Api

PAGE: Final = 50

AnyTrigger = Annotated[str, Parameter(help="The trigger's name.")]


def fire(
    trigger: AnyTrigger,
    /,
    *,
    event: Annotated[
        Path | None,
        Parameter(allow_leading_hyphen=True, help="A JSON or YAML file: the event's body; - for standard input."),
    ] = None,
    wait: Annotated[bool, Parameter(help="Wait until all its orders have ended.")] = False,
    follow: Annotated[bool, Parameter(help="Show their output until all have ended.")] = False,
    timeout: Annotated[str | None, Parameter(help="Wait no longer than this (30s, 5m).")] = None,
    plain: Annotated[bool, Parameter(help=PLAIN)] = False,
    common: Common = COMMON,
) -> int:
    """Fire a trigger now, as if its event had come.

    Ends with exit code 3, and the reason, if that could make no orders.
    """
    from muster.cli import run
    from muster.cli.api import segment
    from muster.mesh.names import new_id

    run.check_plain(plain=plain, follow=follow)
    body = files.value(event) if event is not None else None
    limit = None if timeout is None else seconds(timeout)
    with common.connect() as api:
        reply = api.post(f"/api/v1/triggers/{segment(trigger)}/fire", body, key=new_id())
        if reply.get("state") == "rejected":
            raise RefusedError(f"firing {reply['firing']} was rejected: {reply.get('reason')}")
        made = reply.get("orders") or []
        if not made or not (wait or follow or limit is not None):
            show(reply, common.output, lambda: _report(trigger, reply))
            is_refused = not made and reply.get("state") != "pending"
            return RefusedError.exit_code if is_refused else 0
        with run.named(made):
            orders = [api.get(f"/api/v1/orders/{segment(order)}") for order in made]
            return run.then(api, orders, common, run.Then(follow=follow, wait=wait, limit=limit, plain=plain))


def _report(trigger: str, reply: dict[str, Any]) -> None:
    if reply.get("ignored"):
        say(f"trigger {trigger} ignored the event: {reply['ignored']}")
        return
    reason = f": {reply['reason']}" if reply.get("reason") else ""
    before = " (a duplicate of an earlier event)" if reply.get("duplicate") else ""
    say(f"firing {reply['firing']} ", (str(reply.get("state") or "fired"), "bold"), f"{reason}{before}")
    for order in reply.get("orders") or ():
        say(f"  order {order}")


def next_(
    trigger: AnyTrigger,
    /,
    *,
    number: Annotated[int, Parameter(name=("--number", "-n"), help="How many.", show_default=True)] = 5,
    common: Common = COMMON,
) -> None:
    """Show when a trigger fires next, in its own time zone."""
    from muster.cli.api import segment

    with common.connect() as api:
        page = api.get(f"/api/v1/triggers/{segment(trigger)}/next", n=number)
    show(page, common.output, lambda: times(page["items"]))


def coming(api: Api, trigger: str, number: int) -> list[dict[str, Any]]:
    """Returns the next times at which it fires; nothing unless it is a schedule."""
    from muster.cli.api import segment

    try:
        items: list[dict[str, Any]] = api.get(f"/api/v1/triggers/{segment(trigger)}/next", n=number)["items"]
    except RefusedError:
        return []
    return items


def times(items: list[dict[str, Any]]) -> None:
    """A table of times to come."""
    table(
        items,
        (
            Column(title="NEXT", value=lambda item: item["local"]),
            Column(title="UTC", value=lambda item: item["due"], optional=1),
            Column(title="IN", value=lambda item: until(item["due"])),
        ),
        empty="it does not fire again",
    )


def event_of(firing: dict[str, Any]) -> str:
    """The event in a few words."""
    event = firing.get("event") or {}
    if firing.get("due"):
        return f"due {clock(firing['due'])}"
    kind, subject = event.get("kind"), event.get("subject") or event.get("ref")
    return " ".join(str(word) for word in (kind, subject) if word) or "-"


FIRINGS: Final = (
    Column(title="FIRING", value=lambda firing: firing["id"][:SHORT]),
    Column(title="STATE", value=lambda firing: firing["state"]),
    Column(title="ORDERS", value=lambda firing: _orders(firing.get("orders") or [])),
    Column(title="EVENT", value=event_of, optional=1, flexible=True),
    Column(title="REASON", value=lambda firing: firing.get("reason"), optional=2, flexible=True),
    Column(title="AGE", value=lambda firing: age(firing.get("time"))),
)


PENDING: Final = (
    Column(title="FIRING", value=lambda pending: pending["firing"][:SHORT]),
    Column(title="KEY", value=lambda pending: pending["group"]),
    Column(title="MAKES ITS ORDERS", value=lambda pending: clock(pending["until"])),
    Column(title="IN", value=lambda pending: until(pending["until"])),
)
"""What waits for the end of a burst."""


def _orders(orders: list[str]) -> str:
    if len(orders) <= 1:
        return orders[0][:SHORT] if orders else "-"
    return f"{orders[0][:SHORT]} and {len(orders) - 1} more"


def firings(
    trigger: AnyTrigger,
    /,
    *,
    limit: Annotated[int, Parameter(help="The most to show.", show_default=True)] = PAGE,
    common: Common = COMMON,
) -> None:
    """List a trigger's firings and their outcomes, newest first."""
    page = _firings(common, trigger, limit)
    show(page, common.output, lambda: table(page["items"], FIRINGS, empty="it has not fired yet"))
    if page["next"] and common.output == "table":
        say((f"there are more than {limit}; --limit shows them", "dim"), errors=True)


def _firings(common: Common, trigger: str, limit: int) -> dict[str, Any]:
    with common.connect() as api:
        return recent(api, trigger, limit)


def recent(api: Api, trigger: str, limit: int) -> dict[str, Any]:
    """A trigger's latest firings."""
    from muster.cli.api import segment

    page: dict[str, Any] = api.items(f"/api/v1/triggers/{segment(trigger)}/firings", limit=limit)
    return page


def one(ident: str, common: Common) -> None:
    """Print one firing as a row of the list."""
    found = _one(ident, common)
    show(found, common.output, lambda: table([found], FIRINGS))


def closely(ident: str, common: Common) -> None:
    """Print all about one firing."""
    found = _one(ident, common)
    if common.output == "table":
        _closely(found)
    else:
        document(found, common.output)


def _one(ident: str, common: Common) -> dict[str, Any]:
    from muster.cli.api import segment

    with common.connect() as api:
        found: dict[str, Any] = api.get(f"/api/v1/firings/{segment(ident)}")
        return found


def _closely(firing: dict[str, Any]) -> None:
    from muster.cli.explain import section

    say(
        ("firing ", "bold"),
        f"{firing['id']} of trigger {firing['trigger']} v{firing['version']} is ",
        (firing["state"], "bold"),
        f": {firing['reason']}" if firing.get("reason") else "",
    )
    fields(
        (
            ("Time", f"{clock(firing['time'])} by {firing.get('by')}"),
            ("Due", firing.get("due") and clock(firing["due"])),
            ("Event's key", firing.get("key")),
            ("Group", firing.get("group")),
            ("Makes its orders", firing.get("until") and clock(firing["until"])),
            ("Firings above", firing.get("depth")),
            ("Orders", firing.get("orders")),
        )
    )
    section("Event")
    fields((name, in_one_line(value)) for name, value in (firing.get("event") or {}).items())
