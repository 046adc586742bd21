"""What every route is given: the rest of the broker, and the settings of the surfaces."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Any

import msgspec
from litestar import Request
from litestar.params import Dependency, Parameter

from muster.broker.api.metrics import Meter
from muster.broker.api.output import Output
from muster.broker.api.wait import Finals
from muster.broker.commands import Commands
from muster.broker.feed import Feed
from muster.broker.query import Query
from muster.mesh.errors import InvalidError, Problem, UsageError
from muster.mesh.settings import MAX_BODY

PREFIX = "/api/v1"
"""Where all but the probes and metrics stands.  Said by each router: Litestar copies what stands in another one."""

MOST_ITEMS = 1000
"""The longest page of a list."""

MOST_TIMES = 1000
"""The most times that a schedule is worked out ahead."""


AGE_HEADER = "Muster-Age"
"""Of an answer, over HTTP and NATS: seconds by which it may be out of date.  Only while the projection is behind."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How the broker is."""

    broker: str
    """Its id, new at each start."""
    ready: bool = True
    reason: str = ""
    """Why it is not ready."""
    leader: bool = False
    durability: str = "safe"
    lag: int = 0
    """Records on the log that this broker has not applied yet."""
    sequence: int = 0
    """The last record that it has applied."""
    orders: dict[str, int] = {}
    """Open orders by state."""
    elements: int = 0
    online: int = 0
    """Elements that an agent acts for."""
    objects: dict[str, int] = {}
    """Objects by kind."""
    ignored: int = 0
    """Events that did not concern their trigger, since this broker started."""
    duplicates: int = 0
    """Events that had come before."""
    troubles: dict[str, str] = {}
    """By element, what is wrong with its agent: of a version that does not fit, or with a clock that is off."""
    warnings: tuple[str, ...] = ()
    """What was asked of the mesh's settings and does not hold, each with what to do about it."""
    unconfined: tuple[str, ...] = ()
    """Elements on which tasks run as root, without isolation."""
    unreadable: dict[str, str] = {}
    """Objects that this broker cannot read (`KIND/NAME`), and why."""


StatusSource = Callable[[], Awaitable[Status]]


class ApiSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator may choose about the surfaces."""

    host: str = "127.0.0.1"
    port: int = 8642
    """0: any free port; `HttpServer.url` tells which."""
    token: str | None = None
    """What callers must show over HTTP; none: everybody who reaches the port may do everything."""
    max_body: int = MAX_BODY
    grace: float = 3.0
    """Seconds that running requests have when the broker goes down."""


class Api(msgspec.Struct, frozen=True, kw_only=True):
    """What every route is given."""

    commands: Commands
    query: Query
    feed: Feed
    output: Output
    finals: Finals
    status: StatusSource
    meter: Meter
    settings: ApiSettings


ApiDependency = Annotated[Api, Dependency(skip_validation=True)]

AnyRequest = Request[Any, Any, Any]

Name = Annotated[str, Parameter(description="The object's name.")]
OrderId = Annotated[str, Parameter(description="The order's id, or as much of its start as no other order has.")]
Limit = Annotated[int, Parameter(ge=1, le=MOST_ITEMS, description="The most items on a page.")]
Cursor = Annotated[str | None, Parameter(description="`next` of the page before.")]
DryRun = Annotated[bool, Parameter(description="Only tell what would happen.")]

LONGEST_KEY = 255

_MOMENT: Any = Annotated[datetime, msgspec.Meta(tz=True)]


def idempotency_key(given: str | None, header: str = "Idempotency-Key") -> str | None:
    """The key that makes a request safe to repeat, if there is one.

    Raises:
        UsageError: it is empty, too long, or not printable.
    """
    if given is None:
        return None
    if not given.strip() or len(given) > LONGEST_KEY or not given.isprintable() or not given.isascii():
        raise UsageError(f"{header} has to be 1 to {LONGEST_KEY} printable ASCII characters")
    return given


def moment(text: str | None, path: str, *, now: datetime) -> datetime | None:
    """A point in time written as RFC 3339, or as how long ago: `1h`.

    Raises:
        InvalidError: it is neither.
    """
    from muster.blueprints.definition import duration

    if text is None:
        return None
    try:
        return now - duration(text)
    except (ValueError, OverflowError):  # the latter: before the year 1
        pass
    try:
        found: datetime = msgspec.convert(text.replace(" ", "+"), _MOMENT)
    except msgspec.ValidationError:
        problem = Problem(message=f"{text!r} is neither a time (2026-01-31T09:00:00Z) nor a duration (1h)", path=path)
        raise InvalidError("the request's parameters are not valid", problem) from None
    return found
