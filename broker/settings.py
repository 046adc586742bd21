"""The mesh's settings: one object on the log, which every broker follows and the leader makes true on the server.

A flag of a process can only seed them in a new mesh.  Afterwards they change with `muster apply`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

import msgspec
import nats.errors
import structlog
from msgspec import to_builtins
from nats.aio.client import Client
from nats.js.errors import APIError

from muster.blueprints.definition import duration, size
from muster.blueprints.objects.base import Manifest
from muster.blueprints.objects.mesh import MESH, NAME, Mesh, Retention
from muster.broker import consumers, streams
from muster.broker.assign import Assignments
from muster.broker.leader import Leader
from muster.broker.lease import Lease
from muster.broker.log import Log
from muster.broker.state.changes import Changes
from muster.broker.state.world import World
from muster.mesh.errors import MusterError
from muster.mesh.jetstream import LostRaceError
from muster.mesh.messages import ASSIGNMENT_POLL
from muster.mesh.records import Applied
from muster.mesh.service import Service

log = structlog.get_logger()

SEED: Final = "mesh-settings"
"""The id of the record that seeds the settings: the log takes one of them."""

POLL_INTERVAL: Final = 1.0
"""Seconds between two attempts of the leader, or two checks of the others, while a setting changes."""

NOTICE: Final = timedelta(seconds=ASSIGNMENT_POLL + 10)
"""How long an agent that is connected may take to learn of a shorter lease: it reads its assignment that often."""


REWRITE_TIMEOUT: Final = 60.0
"""Seconds to write the assignments of all elements."""


class Flags(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator gave this process; None where nothing was given."""

    lease: timedelta | None = None
    replicas: int | None = None


def stream_settings(mesh: Mesh) -> streams.StreamSettings:
    """What the settings say about the streams."""
    output = mesh.retention.output
    return streams.StreamSettings(
        replicas=mesh.replicas, output_age=duration(output.age), output_size=size(output.size)
    )


class MeshSettings(Service):
    """Follows the settings on the log, and as the leader makes them true on the server."""

    def __init__(
        self, client: Client, state: World, leader: Leader, assignments: Assignments, lease: Lease, flags: Flags
    ) -> None:
        super().__init__()
        self._client = client
        self._state = state
        self._leader = leader
        self._assignments = assignments
        self._lease = lease
        self._flags = flags
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._shortfall = ""
        """What the server cannot do of what is wanted."""
        self._is_checked = False
        """Whether every consumer grants the lease, since this broker leads."""
        self._noticed: timedelta | None = None
        """The shorter lease that every agent's assignment says by now."""
        self._shorten_at = 0.0
        """When every agent uses it, in the loop's time."""
        self.notice = NOTICE

    @property
    def current(self) -> Mesh | None:
        """The settings on the log; None until they are seeded."""
        found = self._state.objects.get(MESH.kind, NAME)
        return found if isinstance(found, Mesh) else None

    @property
    def events_age(self) -> timedelta:
        """How long events are kept."""
        return duration((self.current.retention if self.current else Retention()).events.age)

    async def seed(self, appender: Log, found: streams.StreamSettings) -> None:
        """Puts the settings on the log of a new mesh.  Of several brokers that do so at once, the first one wins.

        Raises:
            UnavailableError: the log does not take them.
        """
        if self.current is None:
            record = Applied(id=SEED, manifests=(self._seed(found),))
            with suppress(LostRaceError):
                await appender.append(record, expect=0)
        for warning in self._differences():
            log.warning("settings.flag_ignored", why=warning)

    def _seed(self, found: streams.StreamSettings) -> dict[str, Any]:
        """What the flags say; for a mesh of an earlier version, what its streams say where there is no flag."""
        flags = self._flags
        output = {"age": shown(found.output_age), "size": shown_size(found.output_size)}
        return {
            "kind": MESH.kind,
            "name": NAME,
            "lease": shown(flags.lease or self._lease.granted),
            "replicas": flags.replicas or found.replicas,
            "retention": {"events": to_builtins(Retention().events), "output": output},
        }

    def look(self, applied: Sequence[Changes]) -> None:
        """Notices a change of the settings."""
        if any(("object", f"{MESH.kind}/{NAME}") in changes.things for changes in applied):
            self._follow()
            self._wake.set()

    def observe_everything(self) -> None:
        """Checks the settings on the server: the leader before may have stopped half-way."""
        self._noticed, self._is_checked = None, False
        self._wake.set()

    def _follow(self) -> None:
        if (mesh := self.current) is not None:
            self._lease.wanted = duration(mesh.lease)

    async def run(self) -> None:
        """Follows until cancelled."""
        self._follow()
        self.ready.set()
        while True:
            is_done = await self._attempt()
            with suppress(TimeoutError):
                async with asyncio.timeout(None if is_done else POLL_INTERVAL):
                    await self._wake.wait()
            self._wake.clear()

    async def _attempt(self) -> bool:
        """Returns whether all processes and streams are as the settings say; if not, it must be called again."""
        mesh = self.current
        if mesh is None:
            return True
        try:
            await self._refresh()
            if not self._leader.leads:
                return not self._lease.is_changing
            await streams.change(self._client, stream_settings(mesh))
            is_done = await self._change_lease()
        except (APIError, MusterError, nats.errors.Error, TimeoutError, OSError) as error:
            self._shortfall = str(error) or repr(error)
            log.warning("settings.unmet", why=self._shortfall)
            return False
        self._shortfall = ""
        return is_done

    async def _refresh(self) -> None:
        """Reads the lease that the leader before has granted."""
        before = self._lease.shorter
        self._lease.granted = await consumers.granted(self._client) or self._lease.granted
        if self._leader.leads and self._lease.shorter != before:
            await self._rewritten()

    async def _change_lease(self) -> bool:
        """A longer lease reaches the server first, a shorter one the agents: so nobody has work that others get too."""
        lease, wanted = self._lease, self._lease.wanted  # it may change meanwhile
        if wanted > lease.granted:
            await consumers.grant(self._client, wanted)
            lease.granted = wanted
            await self._rewritten()
        elif wanted < lease.granted:
            if self._noticed != wanted:
                await self._rewritten()
                self._noticed = wanted
                self._shorten_at = self._loop.time() + max(lease.granted, self.notice).total_seconds()
            if lease.wanted != wanted or self._loop.time() < self._shorten_at:
                return False
            await consumers.grant(self._client, wanted)
            lease.granted = wanted
        elif not self._is_checked:  # another broker may have created a consumer while the lease changed
            await consumers.grant(self._client, wanted)
        self._is_checked = True
        return not lease.is_changing

    async def _rewritten(self) -> None:
        async with asyncio.timeout(REWRITE_TIMEOUT):
            await self._assignments.rewrite()

    def warnings(self) -> tuple[str, ...]:
        """What an operator asked for and does not have, each with what to do about it."""
        return tuple(self._warnings())

    def _warnings(self) -> Iterator[str]:
        yield from self._differences()
        if self._shortfall:
            yield self._shortfall

    def _differences(self) -> Iterator[str]:
        """Flags of this process that differ from the settings of the mesh."""
        mesh, flags = self.current, self._flags
        if mesh is None:
            return
        hint = "change the mesh with `muster apply`, or start this broker without the flag"
        if flags.lease is not None and flags.lease != duration(mesh.lease):
            flag = f"--lease {shown(flags.lease)}"
            yield f"{flag} of this broker is ignored: the lease of this mesh is {mesh.lease}; {hint}"
        if flags.replicas is not None and flags.replicas != mesh.replicas:
            yield (
                f"--replicas {flags.replicas} of this broker is ignored: "
                f"this mesh keeps {mesh.replicas} of each stream; {hint}"
            )


async def check_possible(client: Client, before: Manifest | None, after: Mesh) -> None:
    """Checks that the server can do what a manifest asks for, before it is on the log.

    Raises:
        RefusedError: it cannot.
        UnavailableError: it does not answer.
    """
    if after.replicas > 1 and (not isinstance(before, Mesh) or before.replicas != after.replicas):
        await streams.check_replicas(client, after.replicas)


def shown(span: timedelta) -> str:
    """A span as manifests write it, in the largest unit that it is a whole number of."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if span and span % timedelta(seconds=length) == timedelta(0):
            return f"{span // timedelta(seconds=length)}{unit}"
    return f"{span.total_seconds():g}s"


def shown_size(number: int) -> str:
    """A number of bytes as manifests write it."""
    for unit, length in (("GB", 1024**3), ("MB", 1024**2), ("KB", 1024)):
        if number and number % length == 0:
            return f"{number // length}{unit}"
    return str(number)
