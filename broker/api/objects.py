"""`/api/v1/{kind}s` for every kind of object that is installed, and `/api/v1/apply`."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Response, Router, delete, get, post, put
from litestar.params import Parameter

from muster.blueprints.manifest import Loaded
from muster.blueprints.objects import KIND, object_kinds
from muster.broker.api import manifests
from muster.broker.api.context import PREFIX, AnyRequest, ApiDependency, Cursor, DryRun, Limit, Name
from muster.broker.api.decode import check_keys
from muster.broker.api.orders import BY
from muster.broker.api.views import Listing
from muster.mesh.errors import MALFORMED, InvalidError, Problem


@post(
    f"{PREFIX}/apply",
    status_code=200,
    summary="Create or change objects",
    description='The body is manifests, as YAML or JSON text, or `{"files": [{"name", "text"}]}`. All of them are '
    "applied, or none.",
    tags=["objects"],
    opt={"body": "Manifests", "problems": (400, 409, 413, 422, 503)},
)
async def apply(
    request: AnyRequest,
    api: ApiDependency,
    dry_run: DryRun = False,
    file: Annotated[str, Parameter(description="What problems call the body.")] = "",
) -> manifests.Changes:
    """Create or change objects: all or nothing."""
    given = manifests.files(await request.body(), file)
    if dry_run:
        given = msgspec.structs.replace(given, dry_run=True)
    return await manifests.apply(api.commands.objects, given, BY)


def routers() -> list[Router]:
    """A router for each kind of object, and one for the kinds."""
    kinds = Router(path=f"{PREFIX}/{KIND}s", route_handlers=readers(KIND, f"{KIND}s"), tags=["objects"])
    return [kinds, *(_router(kind, found.plural) for kind, found in sorted(object_kinds().items()))]


def _router(kind: str, plural: str) -> Router:
    handlers = [*readers(kind, plural), _put(kind), _delete(kind)]
    return Router(path=f"{PREFIX}/{plural}", route_handlers=handlers, tags=["objects"])


def readers(kind: str, plural: str) -> list[Any]:
    """Returns the handlers that read objects of a kind: a list of them, and one."""
    return [_list(kind, plural), _get(kind)]


def _list(kind: str, plural: str) -> Any:
    @get("/", operation_id=f"list_{plural}", summary=f"List {plural}", opt={"problems": (422,)})
    async def list_objects(
        api: ApiDependency,
        where: Annotated[str | None, Parameter(description="A CEL filter over `element` (elements only).")] = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Listing:
        page = await api.query.objects(kind, where, limit, cursor)
        return Listing(items=list(page.items), next=page.next)

    return list_objects


def _get(kind: str) -> Any:
    @get("/{name:str}", operation_id=f"get_{kind}", summary=f"One {kind}", opt={"problems": (404,)})
    async def get_object(name: Name, api: ApiDependency) -> dict[str, Any]:
        return await api.query.object(kind, name)

    return get_object


def _put(kind: str) -> Any:
    @put(
        "/{name:str}",
        operation_id=f"put_{kind}",
        summary=f"Create or change a {kind}",
        description="The body is its manifest, as YAML or JSON; `kind` and `name` may be left out.",
        opt={"body": "Manifest", "also": 201, "problems": (400, 409, 413, 422, 503)},
    )
    async def put_object(name: Name, request: AnyRequest, api: ApiDependency) -> Response[dict[str, Any]]:
        loaded = await _load_one(await request.body(), kind, name)
        (change,) = await api.commands.objects.apply([loaded], by=BY)
        status = 201 if change.action == "created" else 200
        return Response(await api.query.object(kind, name), status_code=status)

    return put_object


def _delete(kind: str) -> Any:
    @delete("/{name:str}", operation_id=f"delete_{kind}", summary=f"Delete a {kind}", opt={"problems": (404, 409, 503)})
    async def delete_object(name: Name, api: ApiDependency) -> None:
        await api.commands.objects.delete(kind, name, by=BY)

    return delete_object


async def _load_one(body: bytes, kind: str, name: str) -> Loaded:
    """The one manifest in a body, whose kind and name are the address's.

    Raises:
        InvalidError: it is another one's, there are several, or it is not valid.
    """
    loaded = await manifests.load_all(manifests.files(_named(body, kind, name)))
    if len(loaded) != 1:
        raise InvalidError(f"the body has to be one manifest, not {len(loaded)}")
    found = loaded[0]
    wrong = [
        Problem(message=f"has to be {wanted!r} as in the address, not {given!r}", path=path)
        for path, wanted, given in (("kind", kind, found.kind), ("name", name, found.name))
        if wanted != given
    ]
    if wrong:
        raise InvalidError("the manifest is not the address's", *wrong)
    return found


def _named(body: bytes, kind: str, name: str) -> bytes:
    """A JSON body with the kind and name of its address, where it leaves them out.

    Raises:
        InvalidError: it has a key twice in one object.
    """
    try:
        raw = msgspec.json.decode(body)
    except MALFORMED:
        return body
    if not isinstance(raw, dict) or ("kind" in raw and "name" in raw):
        return body
    check_keys(body, raw)
    return msgspec.json.encode({"kind": kind, "name": name, **raw})
