"""Writes due times to the log: concurrently for many triggers, in order for each, with retries."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from muster.blueprints.provider import Schedule
from muster.mesh.errors import MusterError, NotFoundError, UnreachableError
from muster.mesh.firing import Fire, FireRequest
from muster.mesh.moment import rfc3339
from muster.mesh.service import Service
from muster.triggers.definitions import Trigger

log = structlog.get_logger()

MAX_CONCURRENT: Final = 1024
"""Concurrent firings: the times of one second are on the log before many of their orders have started."""

LATE: Final = timedelta(minutes=1)
"""A time that is later than this is missed, and the schedule's policy applies."""

RETRY_DELAYS: Final = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Seconds before each retry while no broker answers; the last delay repeats."""

LAG_DELAY: Final = 0.25
"""Seconds before a retry if the broker has another version of the trigger, because one of the two is behind."""

MAX_LAG_RETRIES: Final = 20


Pause = Callable[[float], Awaitable[None]]


class Entry:
    """A running schedule: its trigger, and its next due time."""

    __slots__ = (
        "active_at",
        "at",
        "begun_at",
        "due",
        "is_present",
        "name",
        "provider",
        "schedule",
        "version",
        "waiting",
    )

    def __init__(self, trigger: Trigger, schedule: Schedule) -> None:
        self.name = trigger.name
        self.provider = trigger.provider
        self.schedule = schedule
        self.is_present = True
        self.due: datetime | None = None
        self.at = 0.0
        """When `due` fires, including its jitter; seconds since 1970."""
        self.waiting: deque[datetime] | None = None
        """Due times that are not on the log yet; None if there are none."""
        self.take(trigger)

    def take(self, trigger: Trigger) -> None:
        """Updates the trigger to another version with the same schedule."""
        self.version = trigger.version
        self.begun_at, self.active_at = trigger.begun_at, trigger.active_at


class Ticks(Service):
    """Fires due times."""

    def __init__(self, fire: Fire, *, pause: Pause = asyncio.sleep) -> None:
        super().__init__()
        self._fire = fire
        self._pause = pause
        self._queue: deque[Entry] = deque()  # bounded: each entry occurs at most once
        self._workers: asyncio.TaskGroup | None = None
        self._working = 0
        self._lane = asyncio.Lock()
        self._failures = 0
        self.fired = 0
        """The number of firings that a broker accepted."""

    def hand(self, entry: Entry, dues: list[datetime], now: datetime) -> None:
        """Enqueues due times, after pending ones of the same trigger."""
        if entry.waiting is None:
            entry.waiting = deque(dues)
            self._queue.append(entry)
            self._start_worker()
            return
        entry.waiting.extend(dues)
        most = entry.schedule.missed_limit if entry.schedule.missed == "all" else 1
        while len(entry.waiting) > most and entry.waiting[most] < now - LATE:  # they are in order
            log.warning("tick.missed", trigger=entry.name, due=rfc3339(entry.waiting.popleft()))

    async def run(self) -> None:
        """Fires until cancelled."""
        async with asyncio.TaskGroup() as self._workers:
            for _ in range(len(self._queue)):
                self._start_worker()
            self.ready.set()
            await asyncio.Event().wait()

    def _start_worker(self) -> None:
        """Starts another worker, which ends when the queue is empty."""
        if self._workers is not None and self._working < MAX_CONCURRENT:
            self._working += 1
            self._workers.create_task(self._work())

    async def _work(self) -> None:
        while self._queue:
            entry = self._queue.popleft()
            while entry.waiting and entry.is_present:
                due = entry.waiting[0]
                await self._deliver(entry, due)
                if entry.waiting and entry.waiting[0] == due:  # it can have been dropped meanwhile
                    entry.waiting.popleft()
            entry.waiting = None
        self._working -= 1

    async def _deliver(self, entry: Entry, due: datetime) -> None:
        """Fires one due time; returns once it is on the log or no longer wanted."""
        lags = 0
        while _is_wanted(entry, due):
            try:
                is_known = await self._in_lane(entry, due)
            except UnreachableError:
                continue
            except NotFoundError:
                is_known = False
            except MusterError as error:
                log.warning("tick.refused", trigger=entry.name, due=rfc3339(due), why=error.detail)
                return
            if is_known:
                return
            lags += 1
            if lags > MAX_LAG_RETRIES:
                log.warning("tick.unwanted", trigger=entry.name, due=rfc3339(due), version=entry.version)
                return
            await self._pause(LAG_DELAY)

    async def _in_lane(self, entry: Entry, due: datetime) -> bool:
        """Fires; while no broker answers, only one worker at a time retries, and the others wait for it."""
        if not self._failures:
            return await self._ask(entry, due)
        async with self._lane:
            if self._failures:
                await self._pause(RETRY_DELAYS[min(self._failures, len(RETRY_DELAYS)) - 1])
                return await self._ask(entry, due)
        return await self._ask(entry, due)

    async def _ask(self, entry: Entry, due: datetime) -> bool:
        """Fires; returns whether the broker has the same version of the trigger, and accepted the firing."""
        if not _is_wanted(entry, due):  # it can have changed while this waited
            return True
        failures = self._failures
        try:
            reply = await self._fire(request(entry, due))
        except UnreachableError as error:
            self._failed(failures, error)
            raise
        except MusterError:
            self._failures = 0
            raise
        except Exception:
            log.exception("tick.bug", trigger=entry.name)
            return False
        self._failures = 0
        self.fired += not reply.stale
        return not reply.stale

    def _failed(self, before: int, error: UnreachableError) -> None:
        """Counts a failure; concurrent failures have one cause, and count once."""
        self._failures = max(self._failures, before + 1)
        if before == 0 and self._failures == 1:
            log.warning("ticks.wait", why=error.detail)


def _is_wanted(entry: Entry, due: datetime) -> bool:
    waiting = entry.waiting
    return bool(entry.is_present and waiting and waiting[0] == due)


def request(entry: Entry, due: datetime) -> FireRequest:
    """Returns the request for a due time; its key makes it the same firing in every service."""
    key = entry.schedule.key(due, entry.begun_at)
    event: dict[str, Any] = {
        "provider": entry.provider,
        "kind": "tick",
        "id": key,
        "time": rfc3339(due),
        "body": {},
        "headers": {},
        **entry.schedule.details(due),
    }
    return FireRequest(trigger=entry.name, event=event, key=key, version=entry.version, due=due)
