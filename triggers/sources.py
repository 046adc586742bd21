"""Runs triggers that listen to other systems, each in its own task, and restarts them after failures."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from functools import partial
from typing import Final

import msgspec
import nats.errors
import structlog
from nats.js.errors import Error as JetStreamError

from muster.blueprints.provider import Source
from muster.mesh.errors import MusterError
from muster.mesh.service import Service
from muster.triggers.definitions import Trigger
from muster.triggers.leftovers import Leftovers, leaves_something
from muster.triggers.source_mesh import Desk, SourceMesh

log = structlog.get_logger()

FIRST_DELAY: Final = 0.5
LONGEST_DELAY: Final = 30.0
SETTLED: Final = 10.0
"""Seconds after which a source without a failure counts as listening."""

HEALTHY: Final = 60.0
"""Seconds after which a failed source counts as healthy, and restarts with the first delay."""


class _Run(msgspec.Struct, frozen=True, kw_only=True):
    """A source that runs, or that is being cleaned up."""

    source: Source
    mesh: SourceMesh
    task: asyncio.Task[None]


class Sources(Service):
    """Runs every trigger whose provider is a `Source`."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self.trouble: dict[str, str] = {}
        """The reasons why sources do not listen, by trigger."""
        self._desk = desk
        self._leftovers = Leftovers(desk.client)
        self._runs: dict[str, _Run] = {}
        self._group: asyncio.TaskGroup | None = None

    def __len__(self) -> int:
        return len(self._runs)

    async def run(self) -> None:
        """Runs the sources until cancelled."""
        async with asyncio.TaskGroup() as self._group:
            self.ready.set()
            self._group.create_task(self._sweep())
            await asyncio.get_running_loop().create_future()

    def changed(self, name: str, trigger: Trigger | None) -> None:
        """Applies a change of a definition: stops the old source at once, and starts the new one after its end."""
        if self._group is None:
            return
        run = self._runs.get(name)
        if run is not None and trigger is not None and trigger.settings == run.source:
            run.mesh.definition = trigger  # only other fields changed: it continues to listen
            return
        if run is not None:
            del self._runs[name]
            run.mesh.close()
            run.task.cancel()
        if trigger is not None and isinstance(source := trigger.settings, Source):
            mesh = SourceMesh(self._desk, trigger, source.at_once)
            task = self._group.create_task(self._keep(mesh, source, run), name=f"trigger {name}")
            self._runs[name] = _Run(source=source, mesh=mesh, task=task)
        elif run is not None:
            self._group.create_task(self._clear(name, run))

    async def _keep(self, mesh: SourceMesh, source: Source, before: _Run | None) -> None:
        if before is not None:
            await asyncio.wait({before.task})
        name, loop, delay = mesh.trigger, asyncio.get_running_loop(), FIRST_DELAY
        mesh.on_listening = partial(self._listens, name)
        try:
            while True:
                began = loop.time()
                settled = loop.call_later(SETTLED, mesh.listening)
                try:
                    why = await self._once(mesh, source)
                finally:
                    settled.cancel()
                if loop.time() - began > HEALTHY:
                    delay = FIRST_DELAY
                self.trouble[name] = why
                log.warning("source.failed", trigger=name, why=why, again_in=delay)
                await asyncio.sleep(delay)
                delay = min(2 * delay, LONGEST_DELAY)
        finally:
            self.trouble.pop(name, None)

    def _listens(self, name: str) -> None:
        self.trouble.pop(name, None)

    async def _once(self, mesh: SourceMesh, source: Source) -> str:
        """Runs a source once; returns why it ended."""
        try:
            if leaves_something(source):
                await self._leftovers.note(mesh.definition.provider, source, mesh)
            await source.run(mesh)
        except MusterError as error:
            return str(error)
        except asyncio.CancelledError:
            if (current := asyncio.current_task()) is None or current.cancelling():
                raise
            return "an operation that it waited for was cancelled"
        except Exception as error:  # noqa: BLE001 - anybody's code may run here
            return repr(error)
        return "it ended without an error"

    async def _clear(self, name: str, run: _Run) -> None:
        """Cleans up after the end of a source, unless it runs again by then."""
        await asyncio.wait({run.task})
        delay = FIRST_DELAY
        while name not in self._runs:
            try:
                await run.source.forget(run.mesh)  # another service can have removed the note before this one stopped
                await self._leftovers.clear(run.mesh)
            except Exception as error:  # noqa: BLE001 - anybody's code may run here
                log.warning("source.not_cleared", trigger=name, why=repr(error), again_in=delay)
                await asyncio.sleep(delay)
                delay = min(2 * delay, LONGEST_DELAY)
            else:
                return

    async def _sweep(self) -> None:
        """Cleans up after triggers that were deleted while no service ran."""
        await self._desk.definitions.ready.wait()
        for name in await self._left():
            if name not in self._runs:
                now = datetime.now(UTC)
                gone = Trigger(
                    name=name, version=0, provider="", changed_at=now, begun_at=now, active_at=now, enabled=False
                )
                try:
                    await self._leftovers.clear(SourceMesh(self._desk, gone))
                except Exception as error:  # noqa: BLE001 - anybody's code may run here
                    log.warning("source.not_cleared", trigger=name, why=repr(error))

    async def _left(self) -> list[str]:
        while True:
            try:
                return await self._leftovers.triggers()
            except (nats.errors.Error, JetStreamError, TimeoutError, OSError) as error:
                log.debug("source.not_swept", error=repr(error))
                await asyncio.sleep(LONGEST_DELAY)
