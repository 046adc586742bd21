"""All surfaces of a broker, started and stopped together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec
from msgspec.structs import asdict
from nats.aio.client import Client

from muster.broker.api.context import Api, ApiSettings
from muster.broker.api.http import create_app
from muster.broker.api.inbox import Inbox
from muster.broker.api.metrics import Meter
from muster.broker.api.nats import NatsApi
from muster.broker.api.output import Output
from muster.broker.commands import Commands
from muster.broker.feed import Feed
from muster.broker.finals import Finals
from muster.broker.lease import Lease
from muster.broker.operations.operation import Services
from muster.broker.query import Query
from muster.broker.status import StatusSource
from muster.mesh.asgi import App, mounted
from muster.mesh.http import HttpServer
from muster.mesh.service import Service


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What the surfaces need."""

    client: Client
    commands: Commands
    query: Query
    feed: Feed
    lease: Lease
    status: StatusSource
    mounts: Mapping[str, App] = {}
    """What else is served on the HTTP port, by the start of its paths (`/hooks/`)."""
    expositions: tuple[Callable[[], bytes], ...] = ()
    """Metrics of what else lives in this process."""


class Surfaces(msgspec.Struct, frozen=True, kw_only=True):
    """What is running."""

    http: HttpServer
    nats: NatsApi
    inbox: Inbox
    finals: Finals
    meter: Meter
    output: Output

    def renew(self) -> None:
        """The connection to NATS is back."""
        self.inbox.renew()
        self.output.renew()

    @property
    def services(self) -> tuple[Service, ...]:
        """Whose failure should stop the broker."""
        return (self.finals, self.meter, self.nats, self.inbox, self.http)


@asynccontextmanager
async def surfaces(parts: Parts, settings: ApiSettings) -> AsyncIterator[Surfaces]:
    """Serve HTTP, NATS and the inbox until left.

    Raises:
        RefusedError: the HTTP address is taken.
    """
    finals, meter = Finals(parts.query, parts.feed), Meter(parts.feed, parts.expositions)
    output = Output(parts.client, finals, parts.query)
    services = Services(**asdict(parts.commands), query=parts.query, finals=finals, status=parts.status)
    api = Api(services=services, feed=parts.feed, output=output, meter=meter, settings=settings)
    running = Surfaces(
        http=_http(api, parts.mounts),
        nats=NatsApi(parts.client, api),
        inbox=Inbox(parts.client, parts.commands, parts.lease),
        finals=finals,
        meter=meter,
        output=output,
    )
    async with AsyncExitStack() as stack:
        for service in running.services:
            await stack.enter_async_context(service)
        yield running


def _http(api: Api, mounts: Mapping[str, App]) -> HttpServer:
    """The server of the HTTP surface, bound."""
    settings = api.settings
    app = create_app(api)
    return HttpServer(
        mounted(app, mounts) if mounts else app,
        settings.host,
        settings.port,
        grace=settings.grace,
        stopping=api.services.finals.close,
    )
