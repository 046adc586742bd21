"""The clock: computes when each schedule is due next, and enqueues due times.

Every trigger service has one, and all of them fire every due time.  The due time is the key of its firing, so that a
second firing is a duplicate (docs/decisions/015).  Missed times are computed from the last due times on the log.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from itertools import count
from typing import Final, Protocol

import structlog

from muster.blueprints.definition import duration
from muster.blueprints.provider import Schedule
from muster.mesh.errors import UnreachableError
from muster.mesh.firing import DueReply, Fire
from muster.mesh.service import Service
from muster.triggers.definitions import Trigger
from muster.triggers.missed import to_fire
from muster.triggers.ticks import LATE, RETRY_DELAYS, Entry, Ticks
from muster.triggers.zones import MOMENT

log = structlog.get_logger()

MAX_SLEEP: Final = 1.0
"""Seconds after which the wall clock is read again, in case it was set."""

SET_BACK: Final = timedelta(hours=1)
"""If the clock is set back by less, it waits for its latest time; by more, that latest time was wrong."""

YIELD_EVERY: Final = 250
"""Due times after which the loop lets other tasks run."""

_Place = tuple[float, int, Entry]
"""The time at which it fires, a unique number, and its entry."""

Dues = Callable[[str], Awaitable[DueReply]]
"""Requests one page of the last due times on the log: those of triggers after a name."""


class Wall(Protocol):
    """A source of time that can wait."""

    def now(self) -> datetime:
        """Returns the time of day in UTC; the clock can be set, also back."""
        ...

    async def wait(self, changed: asyncio.Event, seconds: float | None) -> None:
        """Waits for so many seconds or until `changed` is set; None waits only for `changed`."""
        ...


class SystemWall:
    """The clock of the host."""

    def now(self) -> datetime:
        """Returns the time of day in UTC."""
        return datetime.now(UTC)

    async def wait(self, changed: asyncio.Event, seconds: float | None) -> None:
        """Waits by the event loop's clock, which setting the time of day does not change."""
        loop = asyncio.get_running_loop()
        timer = None if seconds is None else loop.call_later(seconds, changed.set)
        try:
            await changed.wait()
        finally:
            if timer is not None:
                timer.cancel()


class Clock(Service):
    """Fires schedules when they are due.  Ready once it has read the last due times."""

    def __init__(self, fire: Fire, dues: Dues, *, wall: Wall | None = None, ticks: Ticks | None = None) -> None:
        super().__init__()
        self._wall = wall or SystemWall()
        self._dues = dues
        self.ticks = ticks or Ticks(fire)
        self._entries: dict[str, Entry] = {}
        self._heap: list[_Place] = []
        self._numbers = count()
        self._changed = asyncio.Event()
        self._last: dict[str, datetime] = {}
        """Last due times of triggers that are not known here yet."""
        self._began: datetime | None = None
        self._seen = datetime.min.replace(tzinfo=UTC)
        """The latest time of the wall clock so far."""

    def __len__(self) -> int:
        return len(self._entries)

    def hear(self, name: str, trigger: Trigger | None) -> None:
        """Applies a change of a definition; a listener of `Definitions`."""
        if trigger is None or not isinstance(trigger.settings, Schedule):
            self.remove(name)
        else:
            self.add(trigger, trigger.settings)

    def add(self, trigger: Trigger, schedule: Schedule) -> None:
        """Adds a trigger, or replaces the trigger with its name."""
        entry = self._entries.get(trigger.name)
        if entry is not None and entry.schedule == schedule:
            entry.take(trigger)  # due and pending times are kept
            if self._began is not None and _has_moved(entry):
                self._plan(entry)
            return
        self.remove(trigger.name)
        entry = self._entries[trigger.name] = Entry(trigger, schedule)
        if self._began is not None:
            self._plan(entry)

    def remove(self, name: str) -> None:
        """Removes a trigger; its pending times do not fire."""
        entry = self._entries.pop(name, None)
        if entry is not None:
            entry.is_present = False
            entry.due = None
        self._last.pop(name, None)

    async def run(self) -> None:
        """Fires due times until cancelled."""
        async with self.ticks:
            await self._learn()
            for entry in list(self._entries.values()):
                self._plan(entry)
            self.ready.set()
            while True:
                self._changed.clear()
                await self._fire_due()
                await self._wall.wait(self._changed, self._until_next())

    async def _learn(self) -> None:
        """Reads the last due times, page by page, and retries until a broker answers."""
        after: str | None = ""
        tries = 0
        while after is not None:
            try:
                reply = await self._dues(after)
            except UnreachableError as error:
                if tries == len(RETRY_DELAYS):
                    log.warning("clock.waits", why=error.detail)
                await self._wall.wait(asyncio.Event(), RETRY_DELAYS[min(tries, len(RETRY_DELAYS) - 1)])
                tries += 1
                continue
            self._last |= reply.last
            after = reply.next
        self._began = self._seen = self._wall.now()

    def _plan(self, entry: Entry) -> None:
        """Enqueues missed times, and schedules the next one."""
        now = self._wall.now()
        began = min(self._began or now, now) - most_delay(entry.schedule)
        after = entry.active_at
        last = self._last.pop(entry.name, None)
        if last is not None and last <= now + SET_BACK:
            after = max(after, last)
        if after < began:
            self._enqueue_missed(entry, after, began, now)
            after = began
        self._wait(entry, after)

    def _enqueue_missed(self, entry: Entry, after: datetime, until: datetime, now: datetime) -> None:
        """Enqueues the missed times that the policy of the schedule selects."""
        with _guarded(entry):
            if missed := to_fire(entry.schedule, entry.begun_at, after, until):
                self.ticks.hand(entry, missed, now)

    def _wait(self, entry: Entry, after: datetime) -> None:
        """Schedules the first time after `after`."""
        entry.due = None
        with _guarded(entry):
            entry.due = due = entry.schedule.following(after, entry.begun_at)
            if due is None:
                return
            entry.at = (due + delay(entry, due)).timestamp()
            if not self._heap or entry.at < self._heap[0][0]:
                self._changed.set()
            heapq.heappush(self._heap, (entry.at, next(self._numbers), entry))
        if len(self._heap) > 2 * len(self._entries) + YIELD_EVERY:
            self._heap = [each for each in self._heap if _is_current(each)]
            heapq.heapify(self._heap)

    async def _fire_due(self) -> None:
        """Enqueues every time that is due."""
        now = self._wall.now()
        if now < self._seen - SET_BACK:
            self._recover(now)
        self._seen = max(self._seen, now)
        late = 0
        limit = now.timestamp()
        handed: list[tuple[Entry, datetime, datetime]] = []
        while self._heap and self._heap[0][0] <= limit:
            item = heapq.heappop(self._heap)
            entry = item[2]
            if not _is_current(item) or (due := entry.due) is None:
                continue
            late += limit - entry.at > LATE.total_seconds()
            handed.append((entry, due, self._tick(entry, due, now)))
            if len(handed) % YIELD_EVERY == 0:
                await asyncio.sleep(0)
        if late:
            log.warning("clock.missed", triggers=late, why="the clock was set forward, or this process was stopped")
        await self._wait_again(handed)

    def _tick(self, entry: Entry, due: datetime, now: datetime) -> datetime:
        """Enqueues a due time; returns the time after which the next one is due."""
        if now.timestamp() - entry.at <= LATE.total_seconds():
            self.ticks.hand(entry, [due], now)
            return due
        until = now - LATE
        self._enqueue_missed(entry, due - MOMENT, until, now)
        return max(due, until)

    async def _wait_again(self, handed: list[tuple[Entry, datetime, datetime]]) -> None:
        """Schedules the next time of each entry, after all due times are enqueued."""
        for place, (entry, due, after) in enumerate(handed, start=1):
            if entry.due == due:  # otherwise it was removed meanwhile
                self._wait(entry, after)
            if place % YIELD_EVERY == 0:
                await asyncio.sleep(0)

    def _recover(self, now: datetime) -> None:
        """Recovers from a clock that was far ahead: the times that it fired then do not delay the next ones."""
        log.warning("clock.set_back", by=str(self._seen - now))
        self._seen = now
        self._heap.clear()
        for entry in self._entries.values():
            self._wait(entry, now)

    def _until_next(self) -> float | None:
        if not self._heap:
            return None
        return min(max(0.0, self._heap[0][0] - self._wall.now().timestamp()), MAX_SLEEP)


def _is_current(item: _Place) -> bool:
    """Returns whether an item of the heap is the one that its entry waits for."""
    at, _, entry = item
    return entry.due is not None and entry.at == at


def _has_moved(entry: Entry) -> bool:
    """Returns whether an equal schedule has other times since it was recreated or enabled."""
    if entry.due is None:
        return entry.schedule.following(entry.active_at, entry.begun_at) is not None
    is_ahead = entry.due > entry.active_at
    return is_ahead and entry.schedule.following(entry.due - MOMENT, entry.begun_at) != entry.due


@contextmanager
def _guarded(entry: Entry) -> Iterator[None]:
    """Logs errors, so that a bug of one provider does not stop the others."""
    try:
        yield
    except Exception:
        log.exception("clock.bug", trigger=entry.name)


def most_delay(schedule: Schedule) -> timedelta:
    """Returns the longest jitter of a schedule."""
    return timedelta(0) if schedule.jitter is None else duration(schedule.jitter)


def delay(entry: Entry, due: datetime) -> timedelta:
    """Returns the jitter of a due time, which is equal in every service."""
    most = most_delay(entry.schedule)
    if not most:
        return most
    digest = blake2b(f"{entry.name}\n{due.timestamp():.6f}".encode(), digest_size=8).digest()
    return most * (int.from_bytes(digest) / 2**64)
