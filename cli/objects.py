"""`muster get` and `muster delete`: show objects, remove one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from muster.cli import candidates, kinds
from muster.cli.options import COMMON, AnyKind, Common
from muster.cli.output import document, say, show, table
from muster.mesh.errors import UsageError

if TYPE_CHECKING:
    from muster.cli.api import Api


def get(
    kind: AnyKind,
    name: Annotated[
        str | None,
        Parameter(help="One object; all of the kind if it is not given.", completer=candidates.of_objects),
    ] = None,
    /,
    *,
    where: Annotated[str | None, Parameter(help="A CEL filter over `element`; for elements.")] = None,
    limit: Annotated[int | None, Parameter(help="The most to show; all if it is not given.")] = None,
    common: Common = COMMON,
) -> None:
    """Show objects: all of a kind, or one."""
    from muster.cli import orders, triggers

    if name is not None and (where is not None or limit is not None):
        raise UsageError("--where and --limit are for lists; leave them out, or leave the name out")
    if kinds.singular(kind) == "order":
        if where is not None:
            raise UsageError("--where is for elements; `muster orders --help` shows how to choose orders")
        if name is None:
            orders.orders(limit=orders.PAGE if limit is None else limit, common=common)
        else:
            orders.one(name, common)
        return
    if kinds.singular(kind) == "firing":
        if name is None:
            raise UsageError("whose firings? `muster firings TRIGGER` lists a trigger's")
        triggers.one(name, common)
        return
    with common.connect() as api:
        if name is not None:
            found = one(api, kind, name)
            show(found, common.output, lambda: table([found], kinds.columns(kind, [found])))
            return
        with _known(api, kind):
            page = api.items(_path(kind), limit=limit, where=where)
    title = kinds.plural(kind)
    show(page, common.output, lambda: table(page["items"], kinds.columns(kind, page["items"]), empty=f"no {title}"))
    if page["next"] and common.output == "table":
        say(("there are more; --limit shows them", "dim"), errors=True)


def delete(
    kind: AnyKind,
    name: Annotated[str, Parameter(help="Its name.", completer=candidates.of_objects)],
    /,
    *,
    common: Common = COMMON,
) -> None:
    """Remove an object.  Orders that it made stay on the record."""
    from muster.cli.api import segment

    if kinds.singular(kind) in {"order", "firing"}:
        raise UsageError(f"what happened stays on the record: {kinds.plural(kind)} cannot be deleted")
    with common.connect() as api:
        if kinds.singular(kind) == "element":
            kind = one(api, kind, name)["kind"]
        with _known(api, kind):
            api.delete(f"{_path(kind)}/{segment(name)}")
    what = {"kind": kinds.singular(kind), "name": name, "deleted": True}
    if common.output == "table":
        say(f"{what['kind']} {name} deleted")
    else:
        document(what, common.output)


def one(api: Api, kind: str, name: str) -> dict[str, Any]:
    """One object; `element` finds any kind of element of that name."""
    from muster.cli.api import segment

    with _known(api, kind):
        found: dict[str, Any] = api.get(f"{_path(kind)}/{segment(name)}")
        return found


def _path(kind: str) -> str:
    from muster.cli.api import segment

    return f"/api/v1/{segment(kinds.plural(kind))}"


@contextmanager
def _known(api: Api, kind: str) -> Iterator[None]:
    """Reports a kind that the mesh does not have as bad usage."""
    from muster.blueprints.suggest import did_you_mean
    from muster.mesh.errors import NotFoundError

    try:
        yield
    except NotFoundError as error:
        known = {*kinds.BY_THE_CLI, *(str(found["name"]) for found in api.items("/api/v1/kinds")["items"])}
        if kinds.singular(kind) in known:
            raise
        hint = did_you_mean(kinds.singular(kind), known) or "`muster get kinds` lists them"
        raise UsageError(f"there is no kind {kind!r}; {hint}") from error
