"""A wall clock that a test sets, and a broker that notes what it is asked to fire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from muster.mesh.errors import MusterError
from muster.mesh.firing import DueReply, FireReply, FireRequest
from muster.triggers.clock import Clock
from muster.triggers.definitions import Trigger
from muster.triggers.ticks import Ticks
from tests.kit.waiting import deadline, eventually
from tests.triggers.definition import trigger as defined

NOON = datetime(2030, 1, 31, 12, tzinfo=UTC)
EACH_MINUTE: dict[str, Any] = {"cron": "* * * * *"}


def at(text: str) -> datetime:
    """A time of NOON's day: `12:00:05`."""
    return datetime.fromisoformat(f"{NOON.date()}T{text}+00:00")


def trigger(
    name: str = "tick",
    *,
    provider: str = "cron",
    applied: datetime = NOON,
    begun: datetime | None = None,
    version: int = 1,
    **with_: Any,
) -> Trigger:
    """A trigger as the definitions return it."""
    return defined(name, provider, with_ or EACH_MINUTE, version=version, changed=applied, begun=begun)


class Hands:
    """A wall clock whose hands a test moves; it waits for nobody."""

    def __init__(self, now: datetime = NOON) -> None:
        self.time = now
        self.rests = asyncio.Event()
        """Set while the clock under test waits."""

    def now(self) -> datetime:
        return self.time

    async def wait(self, changed: asyncio.Event, seconds: float | None) -> None:
        self.rests.set()
        self.wake = changed
        await changed.wait()
        self.rests.clear()

    async def move(self, **by: float) -> None:
        """Move the hands, and wait until the clock under test has looked."""
        self.time += timedelta(**by)
        await self.looked()

    async def looked(self) -> None:
        """Have the clock under test look."""
        self.rests.clear()
        self.wake.set()
        async with deadline(what="the clock looked"):
            await self.rests.wait()


class Broker:
    """Notes each firing; refuses what it is asked to refuse."""

    def __init__(self) -> None:
        self.asked: list[FireRequest] = []
        self.taken: list[tuple[str, datetime]] = []
        self.errors: list[MusterError] = []
        """Raised first, in this order."""
        self.away: MusterError | None = None
        """Raised as long as it is set."""
        self.versions: dict[str, int] = {}
        self.log: dict[str, datetime] = {}
        self.gate = asyncio.Event()
        """Answers wait for it."""
        self.gate.set()
        self.pages = 1000

    async def fire(self, request: FireRequest) -> FireReply:
        self.asked.append(request)
        await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)
        if self.away is not None:
            raise self.away
        if request.version != self.versions.get(request.trigger, request.version):
            return FireReply(stale=True)
        assert request.due is not None
        self.taken.append((request.trigger, request.due))
        return FireReply(firing="f")

    async def dues(self, after: str) -> DueReply:
        names = sorted(name for name in self.log if name > after)
        page = names[: self.pages]
        return DueReply(last={name: self.log[name] for name in page}, next=page[-1] if len(page) < len(names) else None)

    def times(self, name: str = "tick") -> list[str]:
        """When a trigger was fired: `12:01:00`."""
        return [due.strftime("%H:%M:%S") for who, due in self.taken if who == name]


async def no_pause(_seconds: float) -> None:
    """Waits for others only."""
    await asyncio.sleep(0)


@asynccontextmanager
async def running(hands: Hands, broker: Broker, *triggers: Trigger) -> AsyncIterator[Clock]:
    """A clock that knew these triggers when it started."""
    clock = Clock(broker.fire, broker.dues, wall=hands, ticks=Ticks(broker.fire, pause=no_pause))
    for each in triggers:
        clock.hear(each.name, each)
    async with deadline(30, what="the clock started"), clock:
        await hands.rests.wait()
        yield clock


async def fired(broker: Broker, *times: str, name: str = "tick") -> None:
    """These times were fired, and no others."""
    await eventually(lambda: broker.times(name) == list(times), within=2, what=f"{times}, got {broker.times(name)}")
