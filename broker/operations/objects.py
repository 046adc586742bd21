"""What can be asked about objects: apply, read, delete; the same for every kind that is installed."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Final

import msgspec

from muster.blueprints.manifest import Loaded
from muster.blueprints.objects import ELEMENT, KIND, object_kinds
from muster.blueprints.suggest import did_you_mean
from muster.broker.operations import manifests
from muster.broker.operations.answers import Gone, Listing
from muster.broker.operations.decode import check_keys
from muster.broker.operations.fields import Cursor, DryRun, Limit, ObjectName
from muster.broker.operations.operation import Call, Operation, Route, one
from muster.mesh.errors import MALFORMED, InvalidError, Problem
from muster.mesh.structs import Wire


class ObjectRef(Wire):
    """Which object."""

    kind: str
    name: ObjectName


class ObjectQuery(Wire):
    """Which objects to list."""

    kind: str
    where: Annotated[str | None, msgspec.Meta(description="A CEL filter over `element` (elements only).")] = None
    limit: Limit = 100
    cursor: Cursor = None


class ObjectBody(Wire):
    """An object, and the manifest that it is to have."""

    kind: str
    name: ObjectName
    body: bytes
    """YAML or JSON; it may leave out kind and name."""


class ApplyQuery(DryRun):
    """What goes with manifests in the query."""

    file: Annotated[str, msgspec.Meta(description="What problems call the body.")] = ""


class Stored(msgspec.Struct, frozen=True):
    """An object after a change."""

    is_new: bool
    object: dict[str, Any]


async def apply(call: Call, request: manifests.Files) -> manifests.Changes:
    """Create or change objects: all or nothing."""
    return await manifests.apply(call.services.objects, request, call.caller)


async def put(call: Call, request: ObjectBody) -> Stored:
    """Create or change one object."""
    loaded = await _load_one(request)
    (change,) = await call.services.objects.apply([loaded], by=call.caller)
    found = await call.services.query.object(request.kind, request.name)
    return Stored(change.action == "created", found)


async def read(call: Call, request: ObjectRef) -> dict[str, Any]:
    """One object."""
    return await call.services.query.object(_readable(request.kind), request.name)


async def find(call: Call, request: ObjectQuery) -> Listing:
    """One page of objects, by name."""
    page = await call.services.query.objects(_readable(request.kind), request.where, request.limit, request.cursor)
    return Listing(items=list(page.items), next=page.next)


async def delete(call: Call, request: ObjectRef) -> Gone:
    """Delete one object."""
    await call.services.objects.delete(_known(request.kind), request.name, by=call.caller)
    return Gone()


def _readable(kind: str) -> str:
    return kind if kind in {ELEMENT, KIND} else _known(kind)


def _known(kind: str) -> str:
    kinds = object_kinds()
    if kind in kinds:
        return kind
    problem = Problem(message=f"there is no kind {kind!r}", path="kind", hint=did_you_mean(kind, kinds))
    raise InvalidError("something is wrong with the request", problem)


async def _load_one(request: ObjectBody) -> Loaded:
    """The one manifest in a body, whose kind and name are the address's.

    Raises:
        InvalidError: it is another one's, there are several, or it is not valid.
    """
    loaded = await manifests.load_all(manifests.files(_named(request)))
    if len(loaded) != 1:
        raise InvalidError(f"the body must be one manifest, not {len(loaded)}")
    found = loaded[0]
    wrong = [
        Problem(message=f"must be {wanted!r} as in the address, not {given!r}", path=path)
        for path, wanted, given in (("kind", request.kind, found.kind), ("name", request.name, found.name))
        if wanted != given
    ]
    if wrong:
        raise InvalidError("the manifest is not the address's", *wrong)
    return found


def _named(request: ObjectBody) -> bytes:
    """A JSON body with the kind and name of its address, where it leaves them out.

    Raises:
        InvalidError: it has a key twice in one object.
    """
    try:
        raw = msgspec.json.decode(request.body)
    except MALFORMED:
        return request.body
    if not isinstance(raw, dict) or ("kind" in raw and "name" in raw):
        return request.body
    check_keys(request.body, raw)
    return msgspec.json.encode({"kind": request.kind, "name": request.name, **raw})


def _applied(body: bytes, query: dict[str, Any]) -> manifests.Files:
    given = manifests.files(body, query["file"])
    return msgspec.structs.replace(given, dry_run=True) if query["dry_run"] else given


def _body(body: bytes, given: dict[str, Any]) -> ObjectBody:
    return ObjectBody(body=body, **given)


# -- a route for each kind --------------------------------------------------------------------------


def _plurals() -> dict[str, str]:
    return {kind: found.plural for kind, found in sorted(object_kinds().items())}


def _route(kind: str, plural: str, method: Any, verb: str, **more: Any) -> Route:
    return Route(
        method=method,
        path=f"/{plural}/{{name}}",
        fixed={"kind": kind},
        id=f"{verb}_{kind}",
        tag="elements" if kind == ELEMENT else "objects",
        **more,
    )


def _list_route(kind: str, plural: str) -> Route:
    route = _route(kind, plural, "GET", "list", summary=f"List {plural}", problems=(422,))
    return msgspec.structs.replace(route, path=f"/{plural}", id=f"list_{plural}")


def _get_route(kind: str, plural: str) -> Route:
    return _route(kind, plural, "GET", "get", summary=f"Get a {kind}", problems=(404,))


def _put_route(kind: str, plural: str) -> Route:
    return _route(
        kind,
        plural,
        "PUT",
        "put",
        summary=f"Create or change a {kind}",
        description="The body is its manifest, as YAML or JSON; `kind` and `name` may be left out.",
        body="Manifest",
        read=_body,
        also=201,
        is_also=lambda stored: stored.is_new,
        view=lambda stored: stored.object,
        problems=(400, 409, 413, 422, 503),
    )


def _delete_route(kind: str, plural: str) -> Route:
    return _route(kind, plural, "DELETE", "delete", summary=f"Delete a {kind}", status=204, problems=(404, 409, 503))


def _each(make: Any, *, also_read: bool = False) -> tuple[Route, ...]:
    found = _plurals()
    if also_read:
        found = {ELEMENT: f"{ELEMENT}s", KIND: f"{KIND}s"} | found
    return tuple(make(kind, plural) for kind, plural in found.items())


OPERATIONS: Final = (
    Operation(
        name="objects.apply",
        summary="Create or change objects",
        verb="apply",
        kind="object",
        request=manifests.Files,
        answer=manifests.Changes,
        handler=apply,
        decoder=manifests.files,
        routes=one(
            Route(
                method="POST",
                path="/apply",
                id="apply",
                tag="objects",
                description='The body is manifests, as YAML or JSON text, or `{"files": [{"name", "text"}]}`. All of '
                "them are applied, or none.",
                body="Manifests",
                query=ApplyQuery,
                read=_applied,
                problems=(400, 409, 413, 422, 503),
            )
        ),
    ),
    Operation(
        name="objects.put",
        summary="Create or change an object",
        verb="apply",
        kind="object",
        request=ObjectBody,
        answer=dict[str, Any],
        handler=put,
        routes=partial(_each, _put_route),
        on_nats=False,  # `objects.apply` takes one manifest as well
    ),
    Operation(
        name="objects.get",
        summary="Get an object; the kind `element` means an element of any kind",
        verb="get",
        kind="object",
        request=ObjectRef,
        answer=dict[str, Any],
        handler=read,
        routes=partial(_each, _get_route, also_read=True),
    ),
    Operation(
        name="objects.list",
        summary="List objects of a kind; `element` means all kinds of element, `kind` the kinds",
        verb="list",
        kind="object",
        request=ObjectQuery,
        answer=Listing,
        handler=find,
        routes=partial(_each, _list_route, also_read=True),
    ),
    Operation(
        name="objects.delete",
        summary="Delete an object",
        verb="delete",
        kind="object",
        request=ObjectRef,
        answer=Gone,
        handler=delete,
        routes=partial(_each, _delete_route),
    ),
)
