"""`muster get` and `muster delete`: look at objects, remove one."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from muster.cli import kinds
from muster.cli.options import COMMON, AnyKind, Common
from muster.cli.output import document, say, show, table
from muster.mesh.errors import UsageError


def get(
    kind: AnyKind,
    name: Annotated[str | None, Parameter(help="One object; all of the kind if it is not given.")] = None,
    /,
    *,
    where: Annotated[str | None, Parameter(help="A CEL filter over `element`; for elements.")] = None,
    limit: Annotated[int | None, Parameter(help="The most to show; all if it is not given.")] = None,
    common: Common = COMMON,
) -> None:
    """Look at objects: all of a kind, or one."""
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
        page = _all(api, kind, where, limit)
    title = kinds.plural(kind)
    show(page, common.output, lambda: table(page["items"], kinds.columns(kind, page["items"]), empty=f"no {title}"))
    if page["next"] and common.output == "table":
        say(("there are more; --limit shows them", "dim"), errors=True)


def delete(
    kind: AnyKind,
    name: Annotated[str, Parameter(help="Its name.")],
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
        api.delete(f"{_place(api, kind)}/{segment(name)}")
    what = {"kind": kinds.singular(kind), "name": name, "deleted": True}
    if common.output == "table":
        say(f"{what['kind']} {name} deleted")
    else:
        document(what, common.output)


def one(api: Any, kind: str, name: str) -> dict[str, Any]:
    """One object; `element` finds any kind of element of that name."""
    from muster.cli.api import segment
    from muster.mesh.errors import NotFoundError

    if kinds.singular(kind) != "element":
        found: dict[str, Any] = api.get(f"{_place(api, kind)}/{segment(name)}")
        return found
    for candidate in kinds.ELEMENTS:
        try:
            return one(api, candidate, name)
        except NotFoundError:
            continue
    raise NotFoundError(f"there is no element {name!r}; `muster get elements` lists them")


def _all(api: Any, kind: str, where: str | None, limit: int | None) -> dict[str, Any]:
    if kinds.singular(kind) != "element":
        page: dict[str, Any] = api.items(_place(api, kind), limit=limit, where=where)
        return page
    pages = [api.items(f"/api/v1/{candidate}s", limit=limit, where=where) for candidate in kinds.ELEMENTS]
    found = sorted((item for page in pages for item in page["items"]), key=lambda item: str(item["name"]))
    shown = found[:limit]
    there_are_more = len(shown) < len(found) or any(page["next"] for page in pages)
    return {"items": shown, "next": shown[-1]["name"] if there_are_more else None}


def _place(api: Any, kind: str) -> str:
    """Where the objects of a kind stand.

    Raises:
        UsageError: there is no such kind; only the mesh knows those of plug-ins.
    """
    from muster.blueprints.suggest import did_you_mean
    from muster.cli.api import segment
    from muster.mesh.errors import NotFoundError

    place = f"/api/v1/{segment(kinds.plural(kind))}"
    if kinds.singular(kind) not in kinds.OWN:
        try:
            api.get(place, limit=1)
        except NotFoundError as error:
            known = {*kinds.OWN, "order", "firing"}
            raise UsageError(f"there is no kind {kind!r}; {did_you_mean(kinds.singular(kind), known)}") from error
    return place
