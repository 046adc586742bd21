"""Adds cron triggers to a running clock, from the JSON that the bucket has; reports how fast, and how big they are."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec
import psutil

from bench.parts.part import Settings, emit, run, started
from muster.mesh.firing import Definition, DueReply, FireReply, FireRequest
from muster.triggers.clock import Clock
from muster.triggers.definitions import understood


class Adder(Settings, frozen=True, kw_only=True):
    """How many, and how alike."""

    count: int
    all_different: bool = False
    """Whether every line is another one; else there are 10,080 of them, one for each minute of a week."""


def lines(settings: Adder) -> Iterator[str]:
    """So many crontab lines."""
    for number in range(settings.count):
        minute, hour = number % 60, number // 60 % 24
        if settings.all_different:
            yield f"{minute} {hour} {number // 1440 % 28 + 1} {number // 40_320 % 12 + 1} *"
        else:
            yield f"{minute} {hour} * * {number // 1440 % 7}"


async def fire(_request: FireRequest) -> FireReply:
    """Nothing is due here."""
    return FireReply(ignored="a benchmark")


async def dues(_after: str) -> DueReply:
    """Nothing was fired before."""
    return DueReply(last={})


async def work(settings: Adder) -> None:
    """Add all of them."""
    now = datetime.now(UTC)
    encoded = [
        msgspec.json.encode(
            Definition(name=f"trigger-{number:06}", version=1, provider="cron", changed_at=now, with_={"cron": line})
        )
        for number, line in enumerate(lines(settings))
    ]
    decode = msgspec.json.Decoder(Definition).decode
    async with Clock(fire, dues) as clock:
        known = {}  # as Definitions keeps them
        clock.hear("first", understood(decode(encoded[0])))
        await started()
        gc.collect()
        before = psutil.Process().memory_info().rss
        begin = time.monotonic_ns()
        for data in encoded:
            trigger = understood(decode(data))
            known[trigger.name] = trigger
            clock.hear(trigger.name, trigger)
        end = time.monotonic_ns()
        gc.collect()
        size = (psutil.Process().memory_info().rss - before) / settings.count
        emit(rate=settings.count / ((end - begin) / 1e9), size=size, known=len(clock))


if __name__ == "__main__":
    run(Adder, work)
