"""What every route is given: the rest of the broker, and the settings of the surfaces."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Request
from litestar.params import Dependency, Parameter

from muster.broker.api.metrics import Meter
from muster.broker.api.output import Output
from muster.broker.feed import Feed
from muster.broker.operations.fields import MAX_ITEMS
from muster.broker.operations.operation import Services
from muster.mesh.settings import MAX_BODY

PREFIX = "/api/v1"
"""Where all but the probes and metrics is served."""

AGE_HEADER = "Muster-Age"
"""Of an answer, over HTTP and NATS: seconds by which it may be out of date.  Only while the projection is behind."""


class ApiSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator may choose about the surfaces."""

    host: str = "127.0.0.1"
    port: int = 8642
    """0: any free port; `HttpServer.url` says which."""
    token: str | None = None
    """What callers must show over HTTP; none: everybody who reaches the port may do everything."""
    max_body: int = MAX_BODY
    grace: float = 3.0
    """Seconds that running requests have when the broker goes down."""


class Api(msgspec.Struct, frozen=True, kw_only=True):
    """What every route is given."""

    services: Services
    feed: Feed
    output: Output
    meter: Meter
    settings: ApiSettings


ApiDependency = Annotated[Api, Dependency(skip_validation=True)]

AnyRequest = Request[Any, Any, Any]

OrderId = Annotated[str, Parameter(description="The order's id, or as much of its start as no other order has.")]
Limit = Annotated[int, Parameter(ge=1, le=MAX_ITEMS, description="The most items on a page.")]
