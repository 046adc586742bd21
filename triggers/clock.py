"""The clock: knows when each schedule is due next, and hands over what is due.

Every trigger service has one, and all of them tick: a due time is the key of its firing, so a second one
is a duplicate (docs/decisions/015).  What the services were not there for is told by the log.
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
from muster.triggers.missed import made_good
from muster.triggers.ticks import LATE, PAUSES, Entry, Ticks
from muster.triggers.zones import MOMENT

log = structlog.get_logger()

RELOOK: Final = 1.0
"""Seconds after which the wall clock is looked at again, in case somebody has set it."""

SET_BACK: Final = timedelta(hours=1)
"""Up to here the clock waits until the time comes again at which it was; beyond, it was wrong before."""

BREATH: Final = 250
"""Due times after which they are fired, before there are more."""

_Place = tuple[float, int, Entry]
"""When it goes off, a number of its own, and whose it is."""

Dues = Callable[[str], Awaitable[DueReply]]
"""Asks for one page of the last due times on the log: those of triggers after a name."""


class Wall(Protocol):
    """The time, and waiting for it."""

    def now(self) -> datetime:
        """The time of day, in UTC; it may be set, also back."""
        ...

    async def wait(self, changed: asyncio.Event, seconds: float | None) -> None:
        """Wait so long, or until something has changed; None: for that alone."""
        ...


class SystemWall:
    """The computer's clock."""

    def now(self) -> datetime:
        """The time of day."""
        return datetime.now(UTC)

    async def wait(self, changed: asyncio.Event, seconds: float | None) -> None:
        """By the event loop, which does not care who sets the time of day."""
        loop = asyncio.get_running_loop()
        timer = None if seconds is None else loop.call_later(seconds, changed.set)
        try:
            await changed.wait()
        finally:
            if timer is not None:
                timer.cancel()


class Clock(Service):
    """Fires schedules as they are due.  Ready once it knows what is on the log."""

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
        """What was told at the start, of triggers that we were not told of yet."""
        self._began: datetime | None = None
        self._seen = datetime.min.replace(tzinfo=UTC)
        """The latest time that the wall clock has shown."""

    def __len__(self) -> int:
        return len(self._entries)

    def hear(self, name: str, trigger: Trigger | None) -> None:
        """A listener of `Definitions`: what it tells holds at once."""
        if trigger is None or not isinstance(trigger.settings, Schedule):
            self.remove(name)
        else:
            self.add(trigger, trigger.settings)

    def add(self, trigger: Trigger, schedule: Schedule) -> None:
        """Go by this trigger from now on, instead of the one of its name."""
        entry = self._entries.get(trigger.name)
        if entry is not None and entry.schedule == schedule:
            entry.take(trigger)  # what is due already, and what waits to be fired, still is to be
            if self._began is not None and _has_moved(entry):
                self._plan(entry)
            return
        self.remove(trigger.name)
        entry = self._entries[trigger.name] = Entry(trigger, schedule)
        if self._began is not None:
            self._plan(entry)

    def remove(self, name: str) -> None:
        """Forget a trigger; nothing of it is fired any more."""
        entry = self._entries.pop(name, None)
        if entry is not None:
            entry.is_present = False
            entry.due = None
        self._last.pop(name, None)

    async def run(self) -> None:
        """Tick until cancelled."""
        async with self.ticks:
            await self._learn()
            for entry in list(self._entries.values()):
                self._plan(entry)
            self.ready.set()
            while True:
                self._changed.clear()
                await self._look()
                await self._wall.wait(self._changed, self._until_next())

    async def _learn(self) -> None:
        """Ask what was fired last, page by page, as long as it takes."""
        after: str | None = ""
        tries = 0
        while after is not None:
            try:
                reply = await self._dues(after)
            except UnreachableError as error:
                if tries == len(PAUSES):
                    log.warning("clock.waits", why=error.detail)
                await self._wall.wait(asyncio.Event(), PAUSES[min(tries, len(PAUSES) - 1)])
                tries += 1
                continue
            self._last |= reply.last
            after = reply.next
        self._began = self._seen = self._wall.now()

    def _plan(self, entry: Entry) -> None:
        """Make good what was missed, and wait for what comes."""
        now = self._wall.now()
        began = min(self._began or now, now) - most_delay(entry.schedule)
        after = entry.active_at
        last = self._last.pop(entry.name, None)
        if last is not None and last <= now + SET_BACK:
            after = max(after, last)
        if after < began:
            self._make_good(entry, after, began, now)
            after = began
        self._wait(entry, after)

    def _make_good(self, entry: Entry, after: datetime, until: datetime, now: datetime) -> None:
        """Hand over what is still to be fired of the times that went by."""
        with _guarded(entry):
            if missed := made_good(entry.schedule, entry.begun_at, after, until):
                self.ticks.hand(entry, missed, now)

    def _wait(self, entry: Entry, after: datetime) -> None:
        """Wait for the first time after `after`."""
        entry.due = None
        with _guarded(entry):
            entry.due = due = entry.schedule.following(after, entry.begun_at)
            if due is None:
                return
            entry.at = (due + delay(entry, due)).timestamp()
            if not self._heap or entry.at < self._heap[0][0]:
                self._changed.set()
            heapq.heappush(self._heap, (entry.at, next(self._numbers), entry))
        if len(self._heap) > 2 * len(self._entries) + BREATH:
            self._heap = [each for each in self._heap if _is_meant(each)]
            heapq.heapify(self._heap)

    async def _look(self) -> None:
        """Hand over what is due by now."""
        now = self._wall.now()
        if now < self._seen - SET_BACK:
            self._start_again(now)
        self._seen = max(self._seen, now)
        late = 0
        limit = now.timestamp()
        handed: list[tuple[Entry, datetime, datetime]] = []
        while self._heap and self._heap[0][0] <= limit:
            item = heapq.heappop(self._heap)
            entry = item[2]
            if not _is_meant(item) or (due := entry.due) is None:
                continue
            late += limit - entry.at > LATE.total_seconds()
            handed.append((entry, due, self._tick(entry, due, now)))
            if len(handed) % BREATH == 0:
                await asyncio.sleep(0)
        if late:
            log.warning("clock.missed", triggers=late, why="the clock was set forward, or this process was stopped")
        await self._wait_again(handed)

    def _tick(self, entry: Entry, due: datetime, now: datetime) -> datetime:
        """Hand over what is due; the time behind which the next one is."""
        if now.timestamp() - entry.at <= LATE.total_seconds():
            self.ticks.hand(entry, [due], now)
            return due
        until = now - LATE
        self._make_good(entry, due - MOMENT, until, now)
        return max(due, until)

    async def _wait_again(self, handed: list[tuple[Entry, datetime, datetime]]) -> None:
        """Work out when each is due next: only now, for what is due already is in more of a hurry."""
        for place, (entry, due, after) in enumerate(handed, start=1):
            if entry.due == due:  # else it was removed meanwhile
                self._wait(entry, after)
            if place % BREATH == 0:
                await asyncio.sleep(0)

    def _start_again(self, now: datetime) -> None:
        """The clock was far ahead: what it has fired then is on the log, and does not hold up what comes now."""
        log.warning("clock.set_back", by=str(self._seen - now))
        self._seen = now
        self._heap.clear()
        for entry in self._entries.values():
            self._wait(entry, now)

    def _until_next(self) -> float | None:
        if not self._heap:
            return None
        return min(max(0.0, self._heap[0][0] - self._wall.now().timestamp()), RELOOK)


def _is_meant(item: _Place) -> bool:
    """Whether a place in the heap is still the one that its entry waits for."""
    at, _, entry = item
    return entry.due is not None and entry.at == at


def _has_moved(entry: Entry) -> bool:
    """Whether the same schedule has other times since it was made anew or enabled."""
    if entry.due is None:
        return entry.schedule.following(entry.active_at, entry.begun_at) is not None
    is_ahead = entry.due > entry.active_at
    return is_ahead and entry.schedule.following(entry.due - MOMENT, entry.begun_at) != entry.due


@contextmanager
def _guarded(entry: Entry) -> Iterator[None]:
    """A provider's bug may not stop the others."""
    try:
        yield
    except Exception:
        log.exception("clock.bug", trigger=entry.name)


def most_delay(schedule: Schedule) -> timedelta:
    """The longest jitter."""
    return timedelta(0) if schedule.jitter is None else duration(schedule.jitter)


def delay(entry: Entry, due: datetime) -> timedelta:
    """The jitter of a due time: another one each time, the same in every service."""
    most = most_delay(entry.schedule)
    if not most:
        return most
    digest = blake2b(f"{entry.name}\n{due.timestamp():.6f}".encode(), digest_size=8).digest()
    return most * (int.from_bytes(digest) / 2**64)
