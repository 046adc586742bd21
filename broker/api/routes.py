"""The routes of HTTP, made from the table of operations."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

import msgspec
from litestar import HttpMethod, Response
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import ResponseSpec
from litestar.params import Parameter

from muster.broker.api.auth import caller_of
from muster.broker.api.context import PREFIX, AnyRequest, Api, ApiDependency
from muster.broker.operations.decode import decode
from muster.broker.operations.fields import idempotency_key
from muster.broker.operations.operation import Call, Operation, Route, perform
from muster.broker.operations.table import OPERATIONS

IdempotencyKey = Annotated[
    str | None,
    Parameter(header="Idempotency-Key", description="Makes the request safe to repeat: the same key, one effect."),
]

_RESERVED: Final = frozenset({"body", "cookies", "data", "headers", "query", "request", "scope", "socket", "state"})
"""Names of arguments that Litestar gives a meaning of its own."""

NO_CONTENT: Final = 204


def route_handlers() -> list[HTTPRouteHandler]:
    """Returns a handler for each route of each operation."""
    return [_Served(operation, route).handler() for operation in OPERATIONS for route in operation.routes()]


class _Served:
    """One operation in one place."""

    def __init__(self, operation: Operation, route: Route) -> None:
        self._operation, self._route = operation, route
        self._fields = {argument: field for argument, field, _ in self._arguments()}
        self._body = body_of(operation, route) if route.body and route.read is None else None

    def handler(self) -> HTTPRouteHandler:
        """Returns what Litestar serves."""
        route, operation = self._route, self._operation
        responses = {}
        if route.dry_run is not None:
            said = "What would be made (`dry_run`)."
            responses[200] = ResponseSpec(route.dry_run.answer, generate_examples=False, description=said)
        decorate = HTTPRouteHandler(
            PREFIX + route.path.replace("}", ":str}"),
            http_method=HttpMethod(route.method),
            status_code=route.status,
            operation_id=route.id,
            summary=route.summary or operation.summary,
            description=route.description or None,
            responses=responses or None,
            tags=[route.tag],
            opt={"body": route.body, "example": route.example, "also": route.also, "problems": route.problems},
        )
        return decorate(self._function())

    def _function(self) -> Any:
        """A function with an argument for each parameter: that is how Litestar documents and checks them."""

        async def serve(request: AnyRequest, api: Api, **given: Any) -> Any:
            return await self._serve(request, api, given)

        empty, keyword = inspect.Parameter.empty, inspect.Parameter.KEYWORD_ONLY
        parameters: dict[str, tuple[Any, Any]] = {"request": (AnyRequest, empty), "api": (ApiDependency, empty)}
        for argument, _, field in self._arguments():
            parameters[argument] = (_parameter(field, in_query=field.name not in self._route.in_path), field.default)
        if self._route.idempotent:
            parameters["key"] = (IdempotencyKey, None)
        has_body = self._route.status != NO_CONTENT
        answer = Response[self._operation.answer] if has_body else None  # type: ignore[name-defined]
        serve.__name__ = self._route.id
        serve.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [
                inspect.Parameter(name, keyword, annotation=kind, default=default)
                for name, (kind, default) in parameters.items()
            ],
            return_annotation=answer,
        )
        serve.__annotations__ = {name: kind for name, (kind, _) in parameters.items()} | {"return": answer}
        return serve

    async def _serve(self, request: AnyRequest, api: Api, given: dict[str, Any]) -> Any:
        route, operation = self._route, self._operation
        key = idempotency_key(given.pop("key", None))
        fields = {self._fields[argument]: value for argument, value in given.items()} | dict(route.fixed)
        if route.dry_run is not None and fields.pop("dry_run"):
            operation = route.dry_run
        wanted = self._read(await request.body() if route.body else b"", fields)
        answer = await perform(operation, Call(api.services, caller_of(request), key), wanted)
        if route.status == NO_CONTENT:
            return None
        if operation is route.dry_run:
            return Response(answer, status_code=200)
        return Response(route.view(answer), status_code=route.also if route.is_also(answer) else route.status)

    def _read(self, body: bytes, fields: dict[str, Any]) -> Any:
        """The request that the path, the query and the body make."""
        kind = self._operation.request
        if self._route.read is not None:
            return self._route.read(body, fields)
        if kind is None:
            return None
        if self._body is None:
            return kind(**fields)
        found = decode(self._body, body)
        return found if self._body is kind else kind(**msgspec.structs.asdict(found), **fields)

    def _arguments(self) -> Iterator[tuple[str, str, _Field]]:
        """Each parameter: the argument's name, the request's field, and what is known of it."""
        route, kind = self._route, self._operation.request
        known = {} if kind is None else _fields(kind)
        for name, field in route.in_path.items():
            yield name, field, known[field].called(name)
        if route.query is not None:
            in_query = _fields(route.query)
        else:
            taken = {*route.fixed, *route.in_path.values()}
            in_query = {} if route.body else {name: known[name] for name in known if name not in taken}
        for name, found in in_query.items():
            yield (f"of_{name}" if name in _RESERVED else name), name, found


class _Field(msgspec.Struct, frozen=True):
    """A field of a request, as a parameter."""

    name: str
    kind: Any
    meta: msgspec.Meta | None
    default: Any

    def called(self, name: str) -> _Field:
        """Returns the same by another name."""
        return msgspec.structs.replace(self, name=name)


@cache
def _fields(kind: type[msgspec.Struct]) -> dict[str, _Field]:
    """The fields of a struct, in order."""
    hints, found = get_type_hints(kind, include_extras=True), {}
    for field in msgspec.structs.fields(kind):
        hint, meta = hints[field.name], None
        if get_origin(hint) is Annotated:
            hint, *extras = get_args(hint)
            meta = next((extra for extra in extras if isinstance(extra, msgspec.Meta)), None)
        default = inspect.Parameter.empty if field.required else field.default
        found[field.name] = _Field(field.name, hint, meta, default)
    return found


def _parameter(field: _Field, *, in_query: bool) -> Any:
    """The annotation that Litestar reads."""
    meta = field.meta or msgspec.Meta()
    query = field.name if in_query else None
    return Annotated[field.kind, Parameter(query=query, ge=meta.ge, le=meta.le, description=meta.description)]


def body_of(operation: Operation, route: Route) -> type[msgspec.Struct]:
    """Returns the struct of a route's JSON body: the operation's request without what the path says."""
    kind = operation.request
    if kind is None:
        raise AssertionError
    said = route.in_path.values()
    if not said:
        return kind
    hints = get_type_hints(kind, include_extras=True)
    rest = [field for field in msgspec.structs.fields(kind) if field.name not in said]
    return msgspec.defstruct(
        kind.__name__,
        [(field.name, hints[field.name], _default(field)) for field in rest],
        namespace={"__doc__": kind.__doc__},
        frozen=True,
        kw_only=True,
        forbid_unknown_fields=True,
    )


def _default(field: msgspec.structs.FieldInfo) -> Any:
    """The field's default, for a struct that is made of others' fields."""
    if field.default_factory is not msgspec.NODEFAULT:
        return msgspec.field(default_factory=field.default_factory)
    return msgspec.field(default=field.default)
