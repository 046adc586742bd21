"""The trigger service: definitions, clock, hooks and sources, which all fire in one way."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Final

import structlog
from nats.aio.client import Client

from muster.mesh.asgi import App
from muster.mesh.asking import Requests
from muster.mesh.companion import Companion
from muster.mesh.firing import DueQuery, DueReply, Fire
from muster.mesh.service import Service, until_stopped
from muster.triggers.clock import Clock
from muster.triggers.definitions import Definitions
from muster.triggers.events import Events
from muster.triggers.fire import by_request
from muster.triggers.hooks import PREFIX, Hooks
from muster.triggers.metrics import Meter
from muster.triggers.reports import Reports
from muster.triggers.source_mesh import Desk
from muster.triggers.sources import Sources
from muster.triggers.ticks import Ticks

log = structlog.get_logger()

START_WARNING: Final = 5.0
"""Seconds after which a starting service logs what it waits for."""


class Triggers(Companion):
    """Runs all triggers, in a process of its own or within a broker.

    Any number of services can run.  Each fires every trigger, and the log keeps one firing for each event.
    """

    def __init__(self, client: Client, fire: Fire | None = None) -> None:
        """Creates the service.

        Args:
            client: the connection to NATS.
            fire: fires in the broker's own process; by default, requests to brokers fire.
        """
        super().__init__()
        self._requests = Requests(client)
        self.meter = Meter(self)
        counted = self.meter.counting(fire or by_request(self._requests))
        self.definitions = Definitions(client, self._requests)
        self._events = Events(client, self._requests)
        self.sources = Sources(Desk(client=client, definitions=self.definitions, events=self._events, fire=counted))
        self.hooks = Hooks(self.definitions, counted)
        self._reports = Reports(client, lambda: {**self.definitions.unusable, **self.sources.trouble})
        self.clock = Clock(counted, self._dues, ticks=Ticks(counted))
        self._entering: Service = self._requests
        self.definitions.listeners += [self.sources.changed, self.clock.hear]

    @property
    def mounts(self) -> Mapping[str, App]:
        """Returns the HTTP application of the hooks."""
        return {PREFIX: self.hooks}

    async def run(self) -> None:
        """Runs until cancelled; ready once every trigger is known."""
        services = (self._requests, self._events, self.sources, self.definitions, self.clock, self._reports)
        warning = asyncio.get_running_loop().call_later(START_WARNING, self._warn)
        async with AsyncExitStack() as stack:
            stack.callback(warning.cancel)
            for service in services:
                self._entering = service
                await stack.enter_async_context(service)
            warning.cancel()
            self.ready.set()
            await until_stopped(asyncio.Event(), *services)

    def _warn(self) -> None:
        waits = type(self._entering).__name__.lower()
        log.warning("triggers.wait", waits_for=waits, hint="is a broker running on this NATS server?")

    async def _dues(self, after: str) -> DueReply:
        return await self._requests.ask("triggers", "due", DueQuery(after=after), DueReply)

    def renew(self) -> None:
        """Recovers after a reconnect to NATS, because messages can be lost."""
        self._requests.renew()
        self.definitions.renew()
        self._events.renew()

    def exposition(self) -> bytes:
        """Returns the metrics of the service."""
        return self.meter.exposition()
