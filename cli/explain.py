"""`muster explain`: why an order is as it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from muster.cli.options import COMMON, AnyOrder, Common
from muster.cli.orders import COLUMNS, target
from muster.cli.output import STYLES, Column, brief, clock, fields, say, show, table, took

if TYPE_CHECKING:
    from muster.cli.api import Api

MOST_CHILDREN: Final = 100
"""Child orders that are shown."""


def explain(order: AnyOrder, /, *, common: Common = COMMON) -> None:
    """Explain an order: its state, where each input came from, its jobs, and its records."""
    from muster.cli.api import segment

    with common.connect() as api:
        found = api.get(f"/api/v1/orders/{segment(order)}/explain")
        below = children_of(api, found["order"]) if common.output == "table" else []
    show(found, common.output, lambda: _explain(found, below))


def children_of(api: Api, order: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the orders that this one made, oldest first; the first hundred."""
    if not order.get("children"):
        return []
    page: list[dict[str, Any]] = api.items("/api/v1/orders", limit=MOST_CHILDREN, parent=order["id"])["items"]
    return page[::-1]


def children(found: list[dict[str, Any]]) -> None:
    """Prints the orders that an order made, if it made any."""
    if found:
        listed("Children", found, COLUMNS, empty="none")


def _explain(found: dict[str, Any], below: list[dict[str, Any]]) -> None:
    order = found["order"]
    headline(order)
    if found.get("meaning"):
        say(f"  {order['state']} means: {found['meaning']}")
    if order.get("trigger"):
        say(("  made by: ", "bold"), f"trigger {order['trigger']}, firing {order.get('firing')}")
    if found.get("waits"):
        say(("  waits: ", "bold"), str(found["waits"]))
        say(("  until: ", "bold"), str(found.get("ends") or ""))
    listed(
        "Inputs",
        found.get("inputs") or [],
        (
            Column(title="INPUT", value=lambda item: item["name"]),
            Column(title="VALUE", value=lambda item: _as_given(item["value"]), flexible=True),
            Column(title="FROM", value=lambda item: item["source"]),
        ),
        empty="none",
    )
    jobs(order)
    children(below)
    losses(order)
    listed(
        "Record",
        found.get("history") or [],
        (
            Column(title="TIME", value=lambda item: clock(item["time"])),
            Column(title="WHAT", value=lambda item: item["type"]),
            Column(title="BY", value=lambda item: item.get("actor")),
            Column(title="DETAIL", value=_detail, optional=1, flexible=True),
            Column(title="SEQ", value=lambda item: item["seq"], optional=2),
        ),
        empty="nothing",
    )


def headline(order: dict[str, Any]) -> None:
    """The order in one line."""
    reason = f": {order['reason']}" if order.get("reason") else ""
    say(
        ("order ", "bold"),
        f"{order['id']}  {order['blueprint']} v{order['version']} for {target(order)} is ",
        (order["state"], STYLES.get(order["state"], "")),
        reason,
    )


def section(title: str) -> None:
    """A heading."""
    say("")
    say((title, "bold underline"))


def listed(title: str, rows: Sequence[Any], columns: Sequence[Column], *, empty: str) -> None:
    """A heading, and a table or what there is to say instead; a pipe gets both."""
    section(title)
    if rows:
        table(rows, columns)
    else:
        say((empty, "dim"))


def jobs(order: dict[str, Any]) -> None:
    """The order's jobs, with what they said."""
    listed(
        "Jobs",
        order.get("jobs") or [],
        (
            Column(title="JOB", value=lambda job: job["name"]),
            Column(title="STATE", value=lambda job: job["state"]),
            Column(title="TRY", value=lambda job: job.get("attempt", 1), optional=3),
            Column(title="EXIT", value=lambda job: job.get("exit_code"), optional=2),
            Column(title="TOOK", value=lambda job: took(job.get("started_at"), job.get("finished_at")), optional=1),
            Column(
                title="OUTPUTS OR ERROR", value=lambda job: job.get("error") or brief(job.get("outputs")), flexible=True
            ),
        ),
        empty="none has started",
    )


def losses(order: dict[str, Any]) -> None:
    """The attempts that the order lost, if there are any: a restarted agent's are on no record of the order's own."""
    if lost := order.get("losses"):
        listed(
            "Lost attempts",
            lost,
            (
                Column(title="TIME", value=lambda loss: clock(loss["at"])),
                Column(title="ON", value=lambda loss: loss["element"]),
                Column(title="WHY", value=lambda loss: loss["reason"], flexible=True),
            ),
            empty="none",
        )


def _outcome(job: dict[str, Any]) -> str:
    return str(job.get("error") or brief(job.get("outputs"), 24))


def facts(order: dict[str, Any]) -> None:
    """Everything else about an order, as a list."""
    fields(
        (
            ("Created", f"{clock(order.get('created_at'))} by {order.get('created_by')}"),
            ("Started", order.get("started_at") and clock(order["started_at"])),
            ("Ended", order.get("finished_at") and clock(order["finished_at"])),
            ("Not before", order.get("not_before") and clock(order["not_before"])),
            ("Continues at", (order.get("waiting") or {}).get("at") and clock(order["waiting"]["at"])),
            ("Pool", order.get("pool")),
            ("Attempt", order.get("restarts", 0) + 1 if order.get("attempt") else None),
            ("Trigger", order.get("trigger")),
            ("Firing", order.get("firing")),
            ("Where", order.get("where")),
            ("Labels", order.get("labels")),
            ("Parent", order.get("parent")),
        )
    )


def _detail(item: dict[str, Any]) -> str:
    data = item.get("data")
    if not isinstance(data, dict):
        return str(data or item.get("refused") or "")
    known = {name: data.get(name) for name in ("attempt", "by", "element", "state", "reason", "until")}
    words = [f"{name} {value}" for name, value in known.items() if value not in (None, "", item.get("actor"))]
    words += ["claimed at once"] if item.get("type") == "created" and data.get("start") else []
    words += [f"{job['name']} {job['state']}" for job in data.get("jobs") or () if isinstance(job, dict)]
    return ", ".join(words)


def _as_given(value: Any) -> str:
    """A value as `-i NAME=…` takes it: text as it is, unless it would be read as JSON."""
    if isinstance(value, str):
        try:
            json.loads(value)
        except ValueError:
            return value
    return json.dumps(value, ensure_ascii=False)
