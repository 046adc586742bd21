"""One broker process: the parts of the control plane, started in the order in which they need each other."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext, suppress
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Final, Literal

import msgspec
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from muster.broker import consumers, ids, streams
from muster.broker.api.context import ApiSettings
from muster.broker.api.surfaces import Parts, Surfaces, surfaces
from muster.broker.assign import Assignments
from muster.broker.commands import commands
from muster.broker.direct_starts import DirectStarts
from muster.broker.duties.clean_up import EndCleanUps
from muster.broker.duties.duty import Duties
from muster.broker.duties.expire import Expire
from muster.broker.duties.settle import Settle
from muster.broker.duties.wake import Wake
from muster.broker.feed import Feed
from muster.broker.leader import Leader
from muster.broker.lease import Lease
from muster.broker.log import Log
from muster.broker.means import Means
from muster.broker.offer import Offers
from muster.broker.planning.first import First
from muster.broker.presence import Presences
from muster.broker.projection import database
from muster.broker.projection.batch import Batch
from muster.broker.projection.projector import Projector
from muster.broker.projection.readers import Readers
from muster.broker.projection.recorder import Recorder
from muster.broker.projection.retention import Prune
from muster.broker.projection.writer import Writer
from muster.broker.query import Query
from muster.broker.settings import Flags, MeshSettings
from muster.broker.state.changes import Changes
from muster.broker.state.world import World
from muster.broker.status import Status
from muster.broker.storage import Storage
from muster.mesh import names
from muster.mesh.companion import Beside, Companion
from muster.mesh.connection import check_asks, connect
from muster.mesh.errors import MusterError, UnavailableError
from muster.mesh.events import nats_subject
from muster.mesh.jetstream import Publisher, post
from muster.mesh.service import Service, rest_the_collector, stop_signals, unless_stopped, until_stopped
from muster.mesh.tokens import Token

log = structlog.get_logger()


MOST_TROUBLES: Final = 20
"""Elements whose agents' problems a broker's status lists."""

DEFAULT_LEASE: Final = timedelta(seconds=30)
"""The lease of a new mesh, unless the flag says another."""


class BrokerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator can set for a broker."""

    server: str
    """NATS URL, or several, comma-separated."""
    data: Path
    """Folder of the projection."""
    api: ApiSettings = ApiSettings()
    durability: Literal["safe", "fast"] = "safe"
    lease: timedelta | None = None
    """The lease of a new mesh; one that exists has its own, on the log."""
    replicas: int | None = None
    """Copies of each stream in a new mesh; likewise."""
    nats_token: Token | None = None
    open: bool = False
    """Work on a NATS server that asks for no token."""
    announce: Callable[[str], AbstractContextManager[None]] = lambda _: nullcontext()
    """Makes this broker's token known to commands of the same account, given its URL."""
    ready_line: bool = True
    """Print `ready broker …` on standard output once requests are answered."""


async def serve(settings: BrokerSettings, beside: Beside | None = None) -> None:
    """Runs a broker until SIGTERM or SIGINT.

    Raises:
        UnreachableError: no NATS server.
        UnavailableError: the projection's file cannot be written, or the log was replaced.
    """
    broker = Broker(settings, beside)
    async with stop_signals() as stop, AsyncExitStack() as stack:
        rest_the_collector()  # a long log is applied before we are ready
        if not await unless_stopped(stop, broker.start(stack, stop.fail)):
            return
        rest_the_collector()
        await until_stopped(stop, *broker.services)


class Broker:
    """The parts of a broker, wired."""

    def __init__(self, settings: BrokerSettings, beside: Beside | None = None) -> None:
        self.settings = settings
        self._beside = beside
        self.companion: Companion | None = None
        self.id = names.new_id()
        self.state = World()
        self.feed = Feed()
        self.surfaces: Surfaces | None = None
        self.services: list[Service] = []

    async def start(self, stack: AsyncExitStack, on_closed: Callable[[MusterError], None] | None = None) -> None:
        """Starts everything; leaving the stack stops it in reverse.

        `on_closed` is called when the connection to NATS was closed for good.
        """
        settings = self.settings
        client = self.client = await self._connected(stack, on_closed)
        found = await streams.ensure(client, streams.StreamSettings(replicas=settings.replicas or 1))
        lease = self.lease = Lease(await consumers.ensure_inbox(client, settings.lease or DEFAULT_LEASE))
        self.ids = await ids.load(client.jetstream())
        file = settings.data / "projection.sqlite"
        await stack.enter_async_context(database.held(file))
        self.state.load(database.kept(file, settings.durability))
        writer = await stack.enter_async_context(Writer(file, settings.durability))
        readers = await stack.enter_async_context(Readers(file))
        self.publisher = await stack.enter_async_context(Publisher(client))
        self.storage = Storage(client, self.publisher)
        self.log = Log(client, self.publisher)
        self.recorder = Recorder(client, self.state, writer, readers)
        self.prune = Prune(writer, self.state)
        self.projector = Projector(client, self.state, self.recorder, self.log)
        self.offers = Offers(client, self.publisher, self.state, self.log)
        self.leader = Leader(client, self.id, found.replicas)
        self.assignments = Assignments(client, self.publisher, self.state, self.leader, lease)
        self.presences = Presences(lease)
        self.direct_starts = DirectStarts(self.publisher, self.state, self.presences, lease)
        flags = Flags(lease=settings.lease, replicas=settings.replicas)
        self.mesh_settings = MeshSettings(client, self.state, self.leader, self.assignments, lease, flags)
        self.recorder.events_age = lambda: self.mesh_settings.events_age
        self.query = Query(readers, self.state, self.recorder, self.log)
        self.query.trouble_of, self.query.trouble = self.presences.trouble, self._trouble
        means = Means(self.state, self.log, self.query, self.ids)
        self.commands = commands(means, client, lease, self.presences, self._start_directly)
        self._wire()
        await self._start_services(stack)
        await self.mesh_settings.seed(self.log, found)
        url = await self._open_surfaces(stack)
        log.info("broker.ready", broker=self.id, api=url, sequence=self.state.seq)
        if settings.ready_line:
            sys.stdout.write(f"ready broker api={url}\n")
            sys.stdout.flush()

    async def _connected(self, stack: AsyncExitStack, on_closed: Callable[[MusterError], None] | None) -> Client:
        settings = self.settings
        client = await stack.enter_async_context(
            connect(
                settings.server,
                name=f"muster-broker-{self.id}",
                token=settings.nats_token,
                on_reconnect=self._again,
                on_closed=on_closed,
            )
        )
        if not settings.open:
            check_asks(client, settings.server)
        return client

    async def _open_surfaces(self, stack: AsyncExitStack) -> str:
        """Answers requests from now on; returns the URL of the API."""
        client = self.client
        companion = self.companion = self._beside(client, self.commands.firings.fire) if self._beside else None
        parts = Parts(
            client=client,
            commands=self.commands,
            query=self.query,
            feed=self.feed,
            lease=self.lease,
            status=self.status,
            mounts=companion.mounts if companion else {},
            expositions=(companion.exposition,) if companion else (),
        )
        running = self.surfaces = await stack.enter_async_context(surfaces(parts, self.settings.api))
        stack.enter_context(self.settings.announce(running.http.url))
        self.services += running.services
        if companion is not None:  # after the surfaces, which it asks
            self.services.append(await stack.enter_async_context(companion))
        return running.http.url

    async def _start_services(self, stack: AsyncExitStack) -> None:
        expire = Expire(self.lease, self.presences)
        settle, clean_up = Settle(self.commands.firings.settled), EndCleanUps(self.lease)
        duties = Duties(self.state, self.log, self.leader, [Wake(), settle, expire, clean_up])

        async def reported(message: Msg) -> None:
            self.query.reported.heard(message.subject, message.data)

        await self.client.subscribe(names.PRESENCE_SUBJECTS, cb=self.presences.receive)
        await self.client.subscribe(names.TROUBLE_SUBJECTS, cb=reported)
        for service in (
            self.log,
            self.storage,
            self.projector,
            self.offers,
            self.direct_starts,
            self.assignments,
            self.mesh_settings,
            self.prune,
            self.leader,
            duties,
        ):
            self.services.append(await stack.enter_async_context(service))

    def _start_directly(self, record: First) -> First:
        return self.direct_starts.with_start(record) if self.leader.leads else record

    def _wire(self) -> None:
        """Connects the parts: every broker projects what changed, and the leader acts on it."""

        def act(applied: Sequence[Changes]) -> None:
            if self.leader.leads:
                self.offers.observe(applied)
                self.direct_starts.observe(applied)
                self.assignments.observe(applied)

        def publish(batch: Batch) -> None:
            self.feed.publish(batch.events, [len(row[-1]) for row in batch.event_rows])
            if self.leader.leads:
                _broadcast(self.client, batch)

        self.projector.on_changes += [act, self.mesh_settings.look]
        self.recorder.on_committed.append(publish)
        self.leader.on_elected += [
            self.presences.start,
            self.offers.observe_everything,
            self.direct_starts.observe_everything,
            self.assignments.observe_everything,
            self.mesh_settings.observe_everything,
        ]

    def _again(self) -> None:
        """Starts over after a reconnect: messages that were on their way may be lost."""
        if not self.services:  # the connection was lost during the start: everything is new
            return
        self.presences.start()
        self.publisher.renew()
        self.projector.renew()
        if self.surfaces is not None:
            self.surfaces.renew()
        if self.companion is not None:
            self.companion.renew()
        if self.leader.leads:
            self.offers.observe_everything()
            self.direct_starts.observe_everything()

    def _trouble(self) -> str:
        """Why not everything can be stored now."""
        return self.storage.trouble or self.recorder.trouble

    async def status(self) -> Status:
        """Returns the state of this broker, for `/readyz`, `/metrics` and `muster doctor`."""
        state = self.state
        trouble = self._trouble() or ("" if self.client.is_connected else "the NATS server is unreachable")
        return Status(
            broker=self.id,
            ready=not trouble,
            reason=trouble,
            leader=self.leader.leads,
            durability=self.settings.durability,
            lag=state.seq - self.recorder.committed,
            sequence=state.seq,
            orders=Counter(order.state for order in state.orders.values()),
            elements=len(state.elements),
            online=sum(element.agent is not None for element in state.elements.values()),
            objects=Counter(kind for kind, _ in state.objects.stored),
            ignored=self.commands.firings.ignored,
            duplicates=self.commands.firings.duplicates,
            troubles=self.presences.troubles(MOST_TROUBLES),
            warnings=self.mesh_settings.warnings(),
            unconfined=self.presences.unconfined(MOST_TROUBLES),
            unreadable={"/".join(key): why for key, why in islice(state.objects.unreadable.items(), MOST_TROUBLES)},
        )


def _broadcast(client: Client, batch: Batch) -> None:
    """Publishes events for whoever listens on NATS; they are in the tables as well."""
    for _, _, kind, subject, document in batch.event_rows:
        with suppress(UnavailableError):
            post(client, nats_subject(kind, subject), document)
