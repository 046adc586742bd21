"""Follows the log: state machine first, then SQLite, then the world is told.

Answers to appenders and releases to the leader go out as soon as a record is applied; they rest on
the log alone.  Events go out when their rows are committed, so whoever hears of something can look
it up.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.errors import NotFoundError

from muster.broker.log import Follower, Log
from muster.broker.projection.batch import Batch
from muster.broker.projection.tables import EVENTS_KEPT
from muster.broker.projection.writer import Writer
from muster.broker.state.changes import Changes
from muster.broker.state.machine import State
from muster.mesh.errors import UnavailableError
from muster.mesh.jetstream import moment, stamp
from muster.mesh.names import LOG_STREAM
from muster.mesh.service import Service

log = structlog.get_logger()

RETRY: Final = 1.0
"""Seconds between two tries to write the projection while the disk is full."""

MAX_BATCH: Final = 4000
"""Records in one transaction; while one is written, the next batch grows to about this at most."""

SLICE: Final = 128
"""Records applied at a stretch: then it is the turn of whoever else has something to do, the socket first."""

MEMORY: Final = 0.1
"""Seconds for which past records count for the load."""

BUSY: Final = 50
"""Records in that time from which on batches are let grow: most orders pass several states within them."""


def _left(load: float, seconds: float) -> float:
    """What a load counts for after so many seconds."""
    return load * math.exp(-seconds / MEMORY)


def _pause(load: float) -> float:
    """Seconds to let a batch grow: none for orders one at a time."""
    return min(load * 0.0001, 0.05) if load > BUSY else 0.0


class Projector(Service):
    """Applies every record once, in order, and keeps the tables up to date.

    Ready once the log's end at the time of starting is reached.
    """

    def __init__(self, client: Client, state: State, writer: Writer, appended: Log) -> None:
        super().__init__()
        self._client = client
        self._state = state
        self._writer = writer
        self._log = appended
        self._follower = Follower(client)
        self._batch = Batch()
        self._records = 0
        self._room = asyncio.Event()
        self._filled = asyncio.Event()
        self._full = asyncio.Event()
        self._advanced = asyncio.Condition()
        self._goal = 0
        self.committed = state.seq
        """The last log sequence that the tables have."""
        self.trouble: str | None = None
        """Why the tables cannot be written just now."""
        self.on_changes: list[Callable[[Sequence[Changes]], None]] = []
        """Called with what each batch of records changed, as soon as it is applied; must not block."""
        self.on_events: list[Callable[[Batch], None]] = []
        """Called with each committed batch."""

    async def run(self) -> None:
        """Follow the log until cancelled."""
        self._goal = (await self._client.jetstream().stream_info(LOG_STREAM)).state.last_seq
        if not await self._is_our_log():
            log.error("log.replaced", log=self._goal, projection=self._state.seq)
            raise UnavailableError(
                f"the log, which ends at {self._goal}, is not the one of which the projection has seen "
                f"{self._state.seq} records: it was replaced or restored; delete the projection file to rebuild it"
            )
        self._state.told_after = self._goal - EVENTS_KEPT  # it would only be deleted again
        self._note_ready()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._apply_all())
            tasks.create_task(self._write_all())

    async def _is_our_log(self) -> bool:
        """Whether the record where the projection ends is the one that it has seen there."""
        seq = self._state.seq
        if not seq or self._goal < seq:
            return not seq
        try:
            found = await self._client.jetstream().get_msg(LOG_STREAM, seq)
        except NotFoundError:  # the log was trimmed up to there
            return True
        return found.time == self._state.time

    def renew(self) -> None:
        """Ask for the log again after a reconnect."""
        self._follower.renew()

    async def caught_up(self) -> None:
        """Wait until the tables have everything that is applied by now: read your own writes."""
        goal = self._state.seq
        if self.committed < goal:
            async with self._advanced:
                await self._advanced.wait_for(lambda: self.committed >= goal)

    async def _apply_all(self) -> None:
        async for messages in self._follower.batches(self._state.seq):
            for start in range(0, len(messages), SLICE):
                while self._records >= MAX_BATCH:
                    self._full.set()
                    self._room.clear()
                    await self._room.wait()
                self._apply(messages[start : start + SLICE])
                self._filled.set()
                await asyncio.sleep(0)

    def _apply(self, messages: list[Msg]) -> None:
        state, batch, appended = self._state, self._batch, self._log
        applied = []
        for message in messages:
            seq, time = stamp(message)
            changes = state.apply(seq, moment(time), message.subject, message.data)
            batch.add(changes)
            applied.append(changes)
            if appended.has_appenders:
                appended.applied(message.subject, message.data, changes)
        self._records += len(messages)
        for tell in self.on_changes:
            tell(applied)

    async def _write_all(self) -> None:
        loop = asyncio.get_running_loop()
        load, loaded = 0.0, loop.time()
        while True:
            await self._filled.wait()
            await self._grown(_pause(_left(load, loop.time() - loaded)))
            self._full.clear()
            self._filled.clear()  # only now: what came during the pause is in this batch, and no batch may be empty
            load = _left(load, loop.time() - loaded) + self._records
            loaded = loop.time()
            batch, self._batch, self._records = self._batch, Batch(), 0
            self._room.set()
            await self._written(batch)
            await self._committed(batch)

    async def _written(self, batch: Batch) -> None:
        while True:
            try:
                await self._writer.write(batch)
            except UnavailableError as error:
                if self.trouble is None:
                    log.error("projection.stuck", error=str(error))  # noqa: TRY400 - the reason says it all
                self.trouble = str(error)
                await asyncio.sleep(RETRY)
            else:
                self.trouble = None
                return

    async def _grown(self, pause: float) -> None:
        """Let the batch grow for so many seconds, unless it is full before."""
        if not pause:
            await asyncio.sleep(0)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._full.wait()

    async def _committed(self, batch: Batch) -> None:
        async with self._advanced:
            self.committed = batch.seq
            self._advanced.notify_all()
        self._note_ready()
        for tell in self.on_events:
            tell(batch)

    def _note_ready(self) -> None:
        if self.committed >= self._goal:
            self.ready.set()
