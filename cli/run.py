"""`muster run`: make work orders, and wait for them or watch them if wanted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from cyclopts import Group, Parameter

from muster.cli import files
from muster.cli.candidates import of_elements
from muster.cli.options import COMMON, PLAIN, Common, key_value, seconds
from muster.cli.orders import COLUMNS, target
from muster.cli.output import Column, brief, document, fields, item, say, table, took
from muster.cli.output import plain as in_one_line
from muster.cli.terminal import note
from muster.mesh.errors import UnreachableError, UsageError

if TYPE_CHECKING:
    from muster.cli.api import Api

TARGET = Group("Target", sort_key=10)
AFTER = Group("Then", sort_key=20)


def run(
    blueprint: Annotated[str, Parameter(help="Which blueprint.")],
    /,
    *,
    on: Annotated[str | None, Parameter(group=TARGET, help="This element.", completer=of_elements)] = None,
    pool: Annotated[str | None, Parameter(group=TARGET, help="A free member of this pool.")] = None,
    where: Annotated[str | None, Parameter(group=TARGET, help="The first match of this CEL filter.")] = None,
    count: Annotated[int | None, Parameter(group=TARGET, help="With --where: so many of them, an order each.")] = None,
    all_: Annotated[bool, Parameter(name="--all", group=TARGET, help="With --where: all of them.")] = False,
    pairs: Annotated[
        tuple[str, ...],
        Parameter(name=("--input", "-i"), help="An input, KEY=VALUE; its schema decides between text and JSON."),
    ] = (),
    inputs: Annotated[
        Path | None, Parameter(allow_leading_hyphen=True, help="A YAML or JSON file of inputs; - for standard input.")
    ] = None,
    wait: Annotated[bool, Parameter(group=AFTER, help="Wait until all have ended.")] = False,
    follow: Annotated[bool, Parameter(group=AFTER, help="Show their output until all have ended.")] = False,
    timeout: Annotated[str | None, Parameter(group=AFTER, help="Wait no longer than this (30s, 5m).")] = None,
    plain: Annotated[bool, Parameter(group=AFTER, help=PLAIN)] = False,
    dry_run: Annotated[bool, Parameter(help="Only show which orders would be made, with which inputs.")] = False,
    common: Common = COMMON,
) -> int:
    """Make work orders from a blueprint.

    Without --wait, --follow or --timeout the command ends as soon as the orders are on the record.
    """
    check_plain(plain=plain, follow=follow)
    body = request(blueprint, on=on, pool=pool, where=where, count=count, all_=all_)
    body["inputs"], body["texts"] = _file(inputs), dict(key_value(pair) for pair in pairs)
    limit = None if timeout is None else seconds(timeout)
    with common.connect() as api:
        if dry_run:
            _preview(api.post("/api/v1/orders", body, dry_run=True), common)
            return 0
        made = _create(api, body)
        with named([order["id"] for order in made]):
            return then(api, made, common, Then(follow=follow, wait=wait, limit=limit, plain=plain))


def request(
    blueprint: str, *, on: str | None, pool: str | None, where: str | None, count: int | None, all_: bool
) -> dict[str, Any]:
    """The request's target, checked as far as that can be done here.

    Raises:
        UsageError: none, or more than one, or `count` and `all` without a filter.
    """
    targets = {"on": on, "pool": pool, "where": where}
    given = [name for name, value in targets.items() if value is not None]
    if len(given) != 1:
        how = "no target;" if not given else f"--{' and --'.join(given)} exclude each other;"
        raise UsageError(f"{how} give one of --on ELEMENT, --pool POOL or --where FILTER")
    if where is None and (count is not None or all_):
        raise UsageError("--count and --all go with --where")
    if count is not None and all_:
        raise UsageError("--count and --all exclude each other")
    body = {"blueprint": blueprint, **{name: targets[name] for name in given}}
    return body | ({"count": count} if count is not None else {}) | ({"all": True} if all_ else {})


def _file(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    found = files.value(path)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise UsageError(f"{files.called(path)} must be a mapping of inputs, not {type(found).__name__}")
    return found


def _create(api: Api, body: dict[str, Any]) -> list[dict[str, Any]]:
    from muster.mesh.names import new_id

    made: list[dict[str, Any]] = api.post("/api/v1/orders", body, key=new_id())["orders"]
    return made


def check_plain(*, plain: bool, follow: bool) -> None:
    """Refuse what would do nothing.

    Raises:
        UsageError: output that is not shown cannot be plain.
    """
    if plain and not follow:
        raise UsageError("--plain goes with --follow")


class Then(NamedTuple):
    """What to do once the orders are made."""

    follow: bool
    wait: bool
    limit: float | None
    plain: bool


def then(api: Api, made: list[dict[str, Any]], common: Common, wanted: Then) -> int:
    """Wait for the orders or watch them, if wanted; the exit code."""
    from muster.cli.follow import follow
    from muster.cli.watch import Limit, Watch, wait

    if not (wanted.follow or wanted.wait or wanted.limit is not None):
        if common.output == "table":
            table(made, COLUMNS, empty="no element matches: no orders were made")
        else:
            document({"orders": made}, common.output)
        return 0
    left, watch = Limit(wanted.limit), Watch(api, common.output)
    if wanted.follow:
        follow(api, made, left, watch, plain=wanted.plain)
    ended = wait(api, made, left, watch)
    _report(ended, common, follow=wanted.follow)
    return 0 if all(order["state"] == "finished" for order in ended) else 1


def _report(ended: list[dict[str, Any]], common: Common, *, follow: bool) -> None:
    if common.output != "table":
        if follow:
            for order in ended:
                item(order, common.output)
        else:
            document({"orders": ended}, common.output)
    elif len(ended) == 1:
        summary(ended[0])
    else:
        table(ended, COLUMNS, empty="no element matches: no orders were made")


def summary(order: dict[str, Any]) -> None:
    """One line about an order that has ended, its outputs, and what failed."""
    from muster.cli.output import STYLES

    reason = f": {order['reason']}" if order.get("reason") and order["state"] != "finished" else ""
    say(
        f"order {order['id']} ",
        (order["state"], STYLES.get(order["state"], "")),
        f" on {target(order)} in {took(order['started_at'] or order['created_at'], order['finished_at'])}{reason}",
    )
    fields((f"  {name}", brief(value)) for name, value in order.get("outputs", {}).items())
    for job in order["jobs"]:
        if job["state"] == "failed" and job.get("error"):
            say(f"  {job['name']}: {job['error']}")


def _preview(answer: dict[str, Any], common: Common) -> None:
    if common.output != "table":
        document(answer, common.output)
        return
    table(
        answer["orders"],
        (
            Column(title="FOR", value=target),
            Column(
                title="INPUTS",
                value=lambda order: "\n".join(
                    f"{name} = {in_one_line(value)}  ({order.get('sources', {}).get(name, 'order')})"
                    for name, value in order.get("inputs", {}).items()
                ),
                flexible=True,
            ),
        ),
        empty="no element matches: no orders would be made",
    )
    say(("nothing was made: this was a dry run", "dim"), errors=True)


@contextmanager
def named(orders: Sequence[str]) -> Iterator[None]:
    """Reports these orders if the command ends before they do: without their ids nobody could watch them.

    Raises:
        UnreachableError: the mesh is unreachable; with the orders.
    """
    from muster.cli.watch import continues

    try:
        yield
    except UnreachableError as error:
        raise UnreachableError(f"{error.detail}; {continues(orders)}") from error
    except KeyboardInterrupt:
        note(f"interrupted; {continues(orders)}", prefix="\nmuster:")
        raise
