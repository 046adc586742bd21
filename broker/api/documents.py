"""The OpenAPI document: Litestar's, with the request bodies, examples and problems that it cannot know of."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from litestar import Litestar, MediaType, Request
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme, Tag

from muster import __version__
from muster.broker.api.problems import MEDIA_TYPE
from muster.broker.api.routes import body_of
from muster.broker.operations.manifests import Files
from muster.broker.operations.operation import ANYTHING
from muster.broker.operations.table import OPERATIONS
from muster.mesh.errors import BY_CODE, Problem

_REF: Final = "#/components/schemas/{name}"

_MANIFEST: Final = "kind: machine\nname: web01\nlabels: {role: web}\n"

_MEANINGS: Final = {
    "400": "The request was not understood.",
    "401": "The token is missing or wrong.",
    "403": "A web page of another site must not ask this.",
    "404": "There is no such thing.",
    "405": "There is nothing to do so at this address.",
    "409": "The mesh refused it; the reason is in `detail`.",
    "410": "What follows the place is no longer kept; `after` is where what is kept starts.",
    "413": "The body is larger than the broker takes.",
    "422": "The body or a parameter is not valid; `errors` has all of it.",
    "503": "The mesh cannot take this just now; try again.",
}

_SUCCESSES: Final = {
    200: "There is no new firing: the event had come before, or does not concern the trigger.",
    201: "It was created.",
}
"""What a route's other success (`also`) means."""

_BY_WORDS: Final = frozenset({"cursor", "where", "Idempotency-Key"})
"""Parameters that are understood or not (400): they have no schema to fit (422)."""


def config() -> OpenAPIConfig:
    """How the document is made and where it is served."""
    return OpenAPIConfig(
        title="Muster",
        version=__version__,
        description="Work orders for a fleet: event-driven, claimed by agents, all on the record.",
        path="/schema",
        render_plugins=[_Renderer(path="/openapi.json")],
        components=Components(
            security_schemes={"token": SecurityScheme(type="http", scheme="bearer", description="`MUSTER_TOKEN`")}
        ),
        tags=[
            Tag(name="orders", description="Runs of blueprints."),
            Tag(name="objects", description="What is managed, and what to do with it: applied as manifests."),
            Tag(name="elements", description="Elements of every kind; modes and draining."),
            Tag(name="triggers", description="What turns events into work orders, and what came of it."),
            Tag(name="events", description="What happens, live."),
            Tag(name="broker", description="How the broker is."),
        ],
        use_handler_docstrings=True,
        operation_id_creator=lambda handler, *_: handler.handler_name,
    )


class _Renderer(JsonRenderPlugin):
    """Serves the completed document, made once."""

    def __init__(self, path: str) -> None:
        super().__init__(path=path, media_type=MediaType.JSON)
        self._made: bytes | None = None

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        if self._made is None:
            self._made = msgspec.json.encode(completed(openapi_schema, request.app))
        return self._made


def completed(document: dict[str, Any], app: Litestar) -> dict[str, Any]:
    """The document with what Litestar cannot know of."""
    document.setdefault("components", {}).setdefault("schemas", {}).update(_schemas())
    document["paths"]["/hooks/{trigger}"] = {"post": _delivery()}
    for route in app.routes:
        for path, item in document["paths"].items():
            if _plain(path) != _plain(route.path_format):
                continue
            for handler in getattr(route, "route_handlers", ()):
                for method in handler.http_methods:
                    if operation := item.get(method.lower()):
                        _complete(operation, handler.opt)
    return document


def _delivery() -> dict[str, Any]:
    """Deliveries: no route of Litestar's, for each of them passes there; and the token is not what they show."""
    operation: dict[str, Any] = {
        "tags": ["triggers"],
        "summary": "Deliver an event to a trigger",
        "description": "Signed as the trigger's provider asks for. Served where a trigger service runs: beside the "
        "broker in `muster up`, or at the address of `muster triggers`.",
        "operationId": "deliver",
        "parameters": [
            {
                "name": "trigger",
                "in": "path",
                "required": True,
                "description": "The trigger's name.",
                "schema": {"type": "string"},
            }
        ],
        "responses": {
            "200": {"description": "It came before (`duplicate`), or does not concern the trigger (`ignored`)."},
            "202": {"description": "The firing is on the log: its id, and those of its orders."},
        },
    }
    _complete(operation, {"body": ANYTHING, "public": True, "problems": (400, 401, 404, 413, 503)})
    return operation


def _plain(path: str) -> str:
    return path.rstrip("/") or "/"


def _complete(operation: dict[str, Any], opt: dict[str, Any]) -> None:
    responses = operation["responses"]
    responses.pop("400", None)  # Litestar's own form of error, which never leaves this house
    statuses = {*map(str, opt.get("problems", ())), *([] if opt.get("public") else ["401", "403"])}
    if also := opt.get("also"):
        (first,) = responses.values()
        responses[str(also)] = {**first, "description": _SUCCESSES[also]}
    if parameters := operation.get("parameters"):
        statuses.add("422")
        if not _BY_WORDS.isdisjoint(each["name"] for each in parameters):
            statuses.add("400")
        # OpenAPI 3.1 §4.8.12.1 has clients ignore a parameter of this name
        operation["parameters"] = [_present(each) for each in parameters if each["name"] != "Accept"]
    for status in sorted(statuses):
        responses[status] = {
            "description": _MEANINGS[status],
            "content": {MEDIA_TYPE: {"schema": {"$ref": _REF.format(name="ProblemDetails")}}},
        }
    if not opt.get("public"):
        operation["security"] = [{"token": []}, {}]
    if body := opt.get("body"):
        operation["requestBody"] = {"required": body != ANYTHING, "content": _body(body, opt.get("example"))}


def _present(parameter: dict[str, Any]) -> dict[str, Any]:
    """A parameter that may be left out; it cannot be null on the wire."""
    for kind in parameter["schema"].pop("oneOf", ()):
        if kind.get("type") != "null":
            parameter["schema"] = kind
    return parameter


def _body(name: str, example: Any) -> dict[str, Any]:
    if name == ANYTHING:
        return {"application/json": {"schema": {"description": "Any JSON."}, "example": {"ref": "refs/heads/main"}}}
    if example is not None:
        return {"application/json": {"schema": {"$ref": _REF.format(name=name)}, "example": example}}
    content: dict[str, Any] = {
        "application/yaml": {"schema": {"type": "string"}, "example": _MANIFEST},
        "application/json": {"schema": {"type": "object"}, "example": {"kind": "machine", "name": "web01"}},
    }
    if name == "Manifests":
        either = [{"$ref": _REF.format(name="Files")}, {"type": "object"}]
        files = {"files": [{"name": "web01.yaml", "text": _MANIFEST}]}
        content["application/json"] = {"schema": {"anyOf": either}, "example": files}
    return content


def _schemas() -> dict[str, Any]:
    bodies = [
        body_of(operation, route)
        for operation in OPERATIONS
        for route in operation.routes()
        if route.body and route.read is None
    ]
    _, schemas = msgspec.json.schema_components([*bodies, Files, Problem], ref_template=_REF)
    schemas["ProblemDetails"] = {
        "title": "ProblemDetails",
        "description": "An RFC 9457 problem.",
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"type": "string", "examples": [f"urn:muster:problem:{code}" for code in BY_CODE]},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "errors": {"type": "array", "items": {"$ref": _REF.format(name="Problem")}},
        },
    }
    return schemas
