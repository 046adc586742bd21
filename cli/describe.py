"""`muster describe`: one object or order, closely."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import Parameter

from muster.cli import candidates, explain, kinds, objects, triggers
from muster.cli.options import COMMON, AnyKind, Common
from muster.cli.orders import COLUMNS
from muster.cli.output import Column, brief, cell, clock, fields, plain, say, show, table

if TYPE_CHECKING:
    from muster.cli.api import Api

RECENT: Final = 5

_ABOVE: Final = frozenset({"kind", "name", "summary", "created_at", "changed_at", "version"})
_BELOW: Final = frozenset({"inputs", "tasks", "on_failure", "always", "params", "pending"})


def describe(
    kind: AnyKind,
    name: Annotated[str, Parameter(help="Its name, or an order's id.", completer=candidates.of_objects)],
    /,
    *,
    common: Common = COMMON,
) -> None:
    """Show everything about one object, or an order."""
    from muster.cli.api import segment

    if kinds.singular(kind) == "firing":
        triggers.closely(name, common)
        return
    with common.connect() as api:
        if kinds.singular(kind) == "order":
            order = api.get(f"/api/v1/orders/{segment(name)}")
            below = explain.children_of(api, order) if common.output == "table" else []
            show(order, common.output, lambda: _order(order, below))
            return
        found = objects.one(api, kind, name)
        recent = _recent(api, found) if common.output == "table" else []
        print_firings = _trigger(api, found) if common.output == "table" and found["kind"] == "trigger" else None
    show(found, common.output, lambda: _object(found, recent))
    if print_firings is not None:
        print_firings()


def _recent(api: Any, found: dict[str, Any]) -> list[dict[str, Any]]:
    if kinds.is_element(found):
        filters = {"element": found["name"]}
    elif found["kind"] == "blueprint":
        filters = {"blueprint": found["name"]}
    else:
        return []
    page: list[dict[str, Any]] = api.items("/api/v1/orders", limit=RECENT, **filters)["items"]
    return page


def _trigger(api: Api, found: dict[str, Any]) -> Callable[[], None]:
    """Reads a trigger's recent firings and next times; returns what prints them."""
    latest = triggers.recent(api, found["name"], RECENT)["items"]
    coming = triggers.coming(api, found["name"], RECENT) if found.get("enabled", True) else []

    def show_firings() -> None:
        if coming:
            explain.section("Next")
            triggers.times(coming)
        if found.get("pending"):
            explain.section("Pending")
            table(found["pending"], triggers.PENDING)
        explain.listed("Recent firings", latest, triggers.FIRINGS, empty="it has not fired yet")

    return show_firings


def _order(order: dict[str, Any], below: list[dict[str, Any]]) -> None:
    explain.headline(order)
    explain.facts(order)
    explain.section("Inputs")
    fields((name, value) for name, value in order.get("inputs", {}).items())
    explain.jobs(order)
    explain.children(below)
    if order.get("outputs"):
        explain.section("Outputs")
        fields((name, brief(value)) for name, value in order["outputs"].items())


def _object(found: dict[str, Any], recent: list[dict[str, Any]]) -> None:
    say((f"{found['kind']} ", "bold"), found["name"])
    if found.get("summary"):
        say(f"  {found['summary']}")
    if kinds.is_element(found):
        fields([("state", cell(kinds.state(found)))])
    fields((name, _value(name, value)) for name, value in found.items() if name not in _ABOVE | _BELOW)
    fields(
        (
            ("version", found.get("version")),
            ("created", found.get("created_at") and clock(found["created_at"])),
            ("changed", found.get("changed_at") and clock(found["changed_at"])),
        )
    )
    if found.get("params"):
        explain.section("Params")
        fields(found["params"].items())
    if found["kind"] == "blueprint":
        _blueprint(found)
    elif found.get("inputs"):
        explain.section("Inputs")
        fields(found["inputs"].items())
    if recent:
        explain.section("Recent orders")
        table(recent, COLUMNS)


def _value(name: str, value: Any) -> Any:
    return clock(value) if name == "since" and isinstance(value, str) else value


def _blueprint(found: dict[str, Any]) -> None:
    explain.listed(
        "Inputs",
        list((found.get("inputs") or {}).items()),
        (
            Column(title="INPUT", value=lambda item: item[0]),
            Column(title="TYPE", value=lambda item: item[1].get("type"), optional=1),
            Column(
                title="DEFAULT", value=lambda item: plain(item[1]["default"]) if "default" in item[1] else "(required)"
            ),
            Column(
                title="MEANING",
                value=lambda item: item[1].get("description") or item[1].get("title"),
                optional=2,
                flexible=True,
            ),
        ),
        empty="none",
    )
    for part, title in (("tasks", "Tasks"), ("on_failure", "On failure"), ("always", "Always")):
        if found.get(part):
            explain.section(title)
            _tasks(found[part])


def _tasks(tasks: list[dict[str, Any]]) -> None:
    table(
        tasks,
        (
            Column(title="TASK", value=lambda task: task["name"]),
            Column(title="USES", value=lambda task: task.get("uses", "script")),
            Column(title="WHEN", value=lambda task: task.get("when"), optional=2, flexible=True),
            Column(title="TIMEOUT", value=lambda task: task.get("timeout"), optional=3),
            Column(title="DOES", value=_does, optional=1, flexible=True),
        ),
    )


def _does(task: dict[str, Any]) -> str:
    if task.get("summary"):
        return str(task["summary"])
    lines = [text for text in str(task.get("run") or "").splitlines() if text.strip() and not text.startswith("#")]
    return lines[0].strip() + (" ..." if len(lines) > 1 else "") if lines else plain(task.get("with"))
