"""How duties write what is due."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime
from typing import cast

import pytest

from muster.broker.duties.duty import APPENDED_AT_ONCE, Duties, Duty
from muster.broker.leader import Leader
from muster.broker.log import Log
from muster.broker.state.world import World
from muster.mesh.records import Due, Record
from tests.kit.waiting import deadline


class WakeMany(Duty):
    """Has so many records due, once."""

    every = 0.0

    def __init__(self, count: int) -> None:
        self.count = count

    def run_once(self, state: World, now: datetime) -> Iterator[Due]:
        del state, now
        count, self.count = self.count, 0
        yield from (Due(order=f"o{number}") for number in range(count))


class Elected:
    """A leader that leads."""

    leads = True


class SlowLog:
    """A log that answers nobody until a batch is complete."""

    def __init__(self, total: int) -> None:
        self.left = total
        self.waiting: list[asyncio.Future[None]] = []
        self.most = 0
        self.done = asyncio.Event()

    def append(self, record: Record) -> asyncio.Future[None]:
        del record
        outcome = asyncio.get_running_loop().create_future()
        self.waiting.append(outcome)
        self.most = max(self.most, len(self.waiting))
        if len(self.waiting) == min(APPENDED_AT_ONCE, self.left):
            self.left -= len(self.waiting)
            for waiting in self.waiting:
                waiting.set_result(None)
            self.waiting.clear()
            if not self.left:
                self.done.set()
        return outcome


@pytest.mark.parametrize("count", [1, 100, APPENDED_AT_ONCE * 2 + 1])
async def test_the_records_of_a_duty_are_appended_before_any_is_awaited(count: int) -> None:
    log = SlowLog(count)
    duties = Duties(World(), cast("Log", log), cast("Leader", Elected()), [WakeMany(count)])
    async with duties, deadline(10, "every record is on the log"):
        await log.done.wait()
    assert log.most == min(count, APPENDED_AT_ONCE)
