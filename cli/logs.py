"""`muster logs`: what an order's tasks printed, or print."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from muster.cli.options import COMMON, PLAIN, AnyOrder, Common
from muster.cli.output import document
from muster.mesh.errors import NotFoundError

if TYPE_CHECKING:
    from muster.cli.api import Api


def logs(
    order: AnyOrder,
    /,
    *,
    follow: Annotated[bool, Parameter(name=("--follow", "-f"), help="Print what comes, until the order ends.")] = False,
    job: Annotated[str | None, Parameter(help="Only this job's output.")] = None,
    plain: Annotated[bool, Parameter(help=PLAIN)] = False,
    common: Common = COMMON,
) -> None:
    """Print what an order's tasks printed."""
    from muster.cli.api import segment

    with common.connect() as api:
        found = api.get(f"/api/v1/orders/{segment(order)}")
        if job is not None:
            _check_job(api, found, job)
        if follow:
            _follow(api, found, job, common, plain=plain)
        else:
            _so_far(api, found, job, common, plain=plain)


def _check_job(api: Api, order: dict[str, Any], job: str) -> None:
    """Refuse a job that the order neither has nor will have, as far as that can be known."""
    from muster.cli.api import segment

    known = [one["name"] for one in order["jobs"]]
    if not order["finished_at"]:
        try:
            blueprint = api.get(f"/api/v1/blueprints/{segment(order['blueprint'])}")
        except NotFoundError:
            return
        if blueprint["version"] != order["version"]:
            return
        known += [task["name"] for part in ("tasks", "on_failure", "always") for task in blueprint.get(part) or ()]
    if job not in known:
        jobs = ", ".join(dict.fromkeys(known)) or "none"
        raise NotFoundError(f"order {order['id']} has no job {job!r}; it has {jobs}")


def _follow(api: Api, order: dict[str, Any], job: str | None, common: Common, *, plain: bool) -> None:
    from muster.cli.follow import End, Printer, pieces

    printer = Printer(common.output, {order["id"]: order.get("element") or ""}, plain=plain)
    for piece in pieces(api, order["id"], job):
        if isinstance(piece, End):
            printer.ended(piece.order)
        else:
            printer.piece(piece)


def _so_far(api: Api, order: dict[str, Any], job: str | None, common: Common, *, plain: bool) -> None:
    from muster.cli.follow import Printer, as_json

    known = [one["name"] for one in order["jobs"]]
    wanted = [job] if job is not None else known
    texts = [(name, api.raw(f"/api/v1/orders/{order['id']}/output", job=name)) for name in wanted]
    if common.output != "table":
        jobs = [{"job": name} | as_json("output", text) for name, text in texts]
        document({"order": order["id"], "jobs": jobs}, common.output)
        return
    printer = Printer("table", {order["id"]: ""}, plain=plain)
    for name, text in texts:
        if text and len(wanted) > 1 and sys.stdout.isatty():  # a pipe gets the output and nothing else
            printer.heading(name)
        printer.text(text)
    if sys.stdout.isatty():
        printer.end_line()
