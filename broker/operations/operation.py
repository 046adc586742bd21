"""One operation: what it takes and answers, who may ask for it, and where the doors serve it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Literal

import msgspec

from muster.broker.commands import Commands
from muster.broker.finals import Finals
from muster.broker.operations.decode import decode
from muster.broker.query import Query
from muster.broker.status import StatusSource
from muster.mesh import names
from muster.mesh.caller import Caller, CallerKind
from muster.mesh.errors import ForbiddenError

ANYTHING = "anything"
"""A route's `body` that may be any JSON, or nothing."""


class Services(Commands, frozen=True, kw_only=True):
    """What handlers work with: the services that change the mesh, and those that know it."""

    query: Query
    finals: Finals
    status: StatusSource


class Call(msgspec.Struct, frozen=True):
    """Somebody asks for an operation."""

    services: Services
    caller: Caller
    key: str | None = None
    """Makes the request safe to repeat; the caller's own (`Caller.scope`)."""


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Where HTTP serves an operation.

    Fields of the request come from the path (those in braces), from `fixed`, and the others from the body if there is
    one, otherwise from the query.
    """

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    """Below `/api/v1`; parameters in braces: `/orders/{order}`."""
    id: str
    """The OpenAPI operation id."""
    tag: str
    summary: str = ""
    """If not the operation's."""
    description: str = ""
    renamed: Mapping[str, str] = {}
    """Path parameters that are called otherwise than the request's field."""
    fixed: Mapping[str, Any] = {}
    """Fields that the path itself says."""
    body: str = ""
    """The body's schema in the OpenAPI document; empty: it takes none."""
    example: Any = None
    query: type[msgspec.Struct] | None = None
    """Parameters of the query beside a body."""
    read: Callable[[bytes, dict[str, Any]], Any] | None = None
    """Makes the request of the body and the parameters, where the rule above does not."""
    dry_run: Operation | None = None
    """What `dry_run=true` asks for instead."""
    idempotent: bool = False
    """Whether it takes an `Idempotency-Key`."""
    status: int = 200
    also: int = 0
    """Another status of success, and when."""
    is_also: Callable[[Any], bool] = lambda _: False
    view: Callable[[Any], Any] = lambda answer: answer
    """Makes the body of the answer."""
    problems: tuple[int, ...] = ()

    @property
    def in_path(self) -> dict[str, str]:
        """Returns the path's parameters, each with the field of the request that it is."""
        return {name: self.renamed.get(name, name) for name in re.findall(r"\{(\w+)\}", self.path)}


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table."""

    name: str
    """Noun and verb: `orders.create`."""
    summary: str
    verb: str
    kind: str
    """What a caller needs: the right to `verb` on a `kind`; `object`: on the kind that the request names."""
    request: type[msgspec.Struct] | None
    """What it takes; None: nothing."""
    answer: Any
    """The type of what it answers."""
    handler: Callable[[Call, Any], Awaitable[Any]]
    routes: Callable[[], tuple[Route, ...]] = tuple
    """Where HTTP serves it; kinds of object from outside are known only when they are asked for."""
    on_nats: bool = True
    """Whether NATS serves it, on `subject`."""
    decoder: Callable[[bytes], Any] | None = None
    """Reads a request of NATS, where `decode` does not."""

    @property
    def subject(self) -> str:
        """Where NATS serves it: an agent's operations on its element's own subjects."""
        noun, _, verb = self.name.partition(".")
        if noun == "agent":
            return names.agent("*", verb)
        return names.api(noun, verb) if verb else f"muster.api.{noun}"

    def read(self, data: bytes) -> Any:
        """Returns the request in a message.

        Raises:
            UsageError: it is not JSON.
            InvalidError: it is JSON of another shape; every problem is listed.
        """
        if self.decoder is not None:
            return self.decoder(data)
        if self.request is None:
            return None
        return decode(self.request, data or _least(self.request))


def _least(request: type[msgspec.Struct]) -> bytes:
    """What an empty message says: all the defaults, if every field has one."""
    has_defaults = all(not field.required for field in msgspec.structs.fields(request))
    return b"{}" if has_defaults else b""


def one(route: Route) -> Callable[[], tuple[Route, ...]]:
    """Returns the routes of an operation that HTTP serves in one place."""
    return partial(tuple, (route,))


async def perform(operation: Operation, call: Call, request: Any) -> Any:
    """Performs an operation: the one place where a caller's right to `verb` on `kind` is asked.

    Whoever has the mesh's token may ask for everything.  An agent may ask for its own element only: it is known by
    its subject, which NATS permissions hold it to.

    Raises:
        ForbiddenError: an agent asks for another's element.
        MusterError: what the handler raises.
    """
    caller = call.caller
    if caller.kind is CallerKind.AGENT and getattr(request, "element", caller.name) != caller.name:
        raise ForbiddenError(f"the agent of {caller.name} must not ask for {request.element}")
    return await operation.handler(call, request)
