"""Brings what was applied into the tables, and never holds up whoever applies it for long.

While a batch is written, the next one grows.  If the tables cannot be written (a full disk, a lock, a disk that
hangs), it grows up to its bound and is dropped.  Once they can be written again, the log is replayed behind the
place where they end, into a world of its own, until that has caught up.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, suppress
from datetime import timedelta
from typing import Final

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from muster.broker.log import Follower
from muster.broker.projection import database
from muster.broker.projection.batch import Batch
from muster.broker.projection.readers import Readers
from muster.broker.projection.tables import EVENTS_AGE
from muster.broker.projection.writer import Writer
from muster.broker.state.apply import apply
from muster.broker.state.changes import Changes
from muster.broker.state.kept import Kept
from muster.broker.state.world import World
from muster.mesh.errors import UnavailableError
from muster.mesh.jetstream import moment, stamp

log = structlog.get_logger()

RETRY_DELAY: Final = 1.0
"""Seconds between two tries to write a batch."""

STALL_TIMEOUT: Final = 3.0
"""Seconds after which a write that is under way is reported, and a batch that is full is dropped."""

SLICE: Final = 128
"""Records applied without a pause; then it is the turn of others, the socket first."""

LOAD_MEMORY: Final = 0.1
"""Seconds for which past records count for the load."""

BUSY: Final = 50
"""Records in that time from which on batches grow before they are written: an order passes several states meanwhile."""


def _left(load: float, seconds: float) -> float:
    """Returns what a load counts for after so many seconds."""
    return load * math.exp(-seconds / LOAD_MEMORY)


def _pause(load: float) -> float:
    """Returns the seconds to let a batch grow: none for orders one at a time."""
    return min(load * 0.0001, 0.05) if load > BUSY else 0.0


class Recorder:
    """Writes batches of changes, one at a time."""

    def __init__(self, client: Client, state: World, writer: Writer, readers: Readers) -> None:
        self._state = state
        self._writer = writer
        self._readers = readers
        self._follower = Follower(client)
        self._loop = asyncio.get_running_loop()
        self._batch: Batch | None = Batch()
        """What is not written yet; None if it was dropped."""
        self._filled = asyncio.Event()
        self._full = asyncio.Event()
        self._swapped = asyncio.Event()
        self._advanced = asyncio.Condition()
        self._behind_since: float | None = None
        self._writing_since: float | None = None
        self._error = ""
        self._catches_up = False
        self.may_drop = False
        """Whether a batch may be dropped: not before the broker is ready, for nobody waits for orders until then."""
        self.committed = state.seq
        """The last log sequence that the tables have."""
        self.events_age: Callable[[], timedelta] = lambda: EVENTS_AGE
        """How long events are kept."""
        self.on_committed: list[Callable[[Batch], None]] = []
        """Called with each committed batch."""

    # -- for the one who applies --------------------------------------------------------------------

    async def room(self) -> None:
        """Returns once more may be added: at the latest after `STALL_TIMEOUT`."""
        while self._batch is not None and self._batch.is_full:
            self._full.set()
            self._swapped.clear()
            if not self.may_drop:
                await self._swapped.wait()
                continue
            try:
                async with asyncio.timeout(0 if self._catches_up else STALL_TIMEOUT):
                    await self._swapped.wait()
            except TimeoutError:
                self._drop()

    def add(self, applied: Sequence[Changes], size: int) -> None:
        """Adds what records changed; `size` is that of the records in bytes."""
        if self._behind_since is None:
            self._behind_since = self._loop.time()
        if self._batch is not None:
            if not self._batch.records:
                self._batch.since = self._loop.time()
            for changes in applied:
                self._batch.add(changes)
            self._batch.size += size
        self._filled.set()

    def _drop(self) -> None:
        log.warning("projection.dropped", records=self._batch and self._batch.records, committed=self.committed)
        self._batch = None
        self._filled.set()

    def renew(self) -> None:
        """Asks for the log again after a reconnect."""
        self._follower.renew()

    # -- for the one who asks -----------------------------------------------------------------------

    @property
    def age(self) -> float:
        """Seconds for which the tables have lacked something; 0 if they have everything."""
        return 0.0 if self._behind_since is None else self._loop.time() - self._behind_since

    @property
    def trouble(self) -> str:
        """Why the tables are behind; empty if that is only for a moment."""
        if self._error:
            return self._error
        since = self._writing_since
        if since is not None and (seconds := self._loop.time() - since) > STALL_TIMEOUT:
            return (
                f"the projection has not been written for {seconds:.0f} s: its disk hangs, or another program locks "
                "the file; queries answer what it has"
            )
        if self._batch is None or self._catches_up:
            missing = self._state.seq - self.committed
            return f"the projection catches up with the log: it lacks {missing:,} records; queries answer what it has"
        return ""

    async def caught_up(self) -> bool:
        """Waits until the tables have everything that is applied by now; returns False if they will not for a while."""
        goal = self._state.seq
        with suppress(TimeoutError):
            async with asyncio.timeout(0 if self.trouble else STALL_TIMEOUT), self._advanced:
                await self._advanced.wait_for(lambda: self.committed >= goal)
        return self.committed >= goal

    # -- the loop -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Writes until cancelled."""
        load, loaded = 0.0, self._loop.time()
        while True:
            await self._filled.wait()
            await self._grown(_pause(_left(load, self._loop.time() - loaded)))
            self._full.clear()
            self._filled.clear()  # only now: what came during the pause is in this batch
            batch, self._batch = self._batch, Batch()
            self._swapped.set()
            if batch is None:
                await self._catch_up()
                continue
            if not batch.records:
                continue
            load = _left(load, self._loop.time() - loaded) + batch.records
            loaded = self._loop.time()
            await self._write(batch)

    async def _grown(self, pause: float) -> None:
        """Lets the batch grow for so many seconds, unless it is full before."""
        if not pause:
            await asyncio.sleep(0)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._full.wait()

    async def _write(self, batch: Batch) -> None:
        """Writes a batch, however often that takes."""
        while True:
            self._writing_since = self._loop.time()
            try:
                await self._writer.write(batch, self.events_age())
            except UnavailableError as error:
                if not self._error:
                    log.error("projection.stuck", error=str(error))  # noqa: TRY400 - the reason says it all
                self._error = str(error)
                await asyncio.sleep(RETRY_DELAY)
            else:
                break
            finally:
                self._writing_since = None
        self._error = ""
        await self._committed(batch)

    async def _committed(self, batch: Batch) -> None:
        async with self._advanced:
            self.committed = batch.seq
            self._advanced.notify_all()
        if self.committed >= self._state.seq:
            self._behind_since = None
        elif self._batch is not None and not self._catches_up:
            self._behind_since = self._batch.since
        for notify in self.on_committed:
            notify(batch)

    # -- after a stall ------------------------------------------------------------------------------

    async def _catch_up(self) -> None:
        """Replays the log behind the tables; meanwhile the next batch collects what comes after the replay's goal."""
        self._catches_up = True
        started, missing = self._loop.time(), self._state.seq - self.committed
        try:
            world, batch, goal = World(), Batch(), self._state.seq
            world.load(await self._kept())
            async with aclosing(self._follower.batches(world.seq)) as log_behind:
                async for message in _singly(log_behind):
                    seq, time = stamp(message)
                    batch.add(apply(world, seq, moment(time), message.subject, message.data))
                    batch.size += len(message.data)
                    if batch.is_full or seq >= goal:
                        await self._write(batch)
                        batch = Batch()
                    if seq >= goal:
                        if self._batch is not None:
                            break
                        self._batch, goal = Batch(), self._state.seq  # it was dropped once more: the rest is shorter
        finally:
            self._catches_up = False
        log.info("projection.caught_up", records=missing, seconds=round(self._loop.time() - started, 1))

    async def _kept(self) -> Kept:
        """Returns what the tables know of the state, however long it takes to read them."""
        while True:
            try:
                return await database.kept_by(self._readers)
            except UnavailableError as error:
                self._error = str(error)
                await asyncio.sleep(RETRY_DELAY)
            else:
                self._error = ""


async def _singly(batches: AsyncIterator[list[Msg]]) -> AsyncIterator[Msg]:
    """Yields messages one at a time, and pauses now and then."""
    async for messages in batches:
        for place, message in enumerate(messages, start=1):
            yield message
            if place % SLICE == 0:
                await asyncio.sleep(0)
