"""Writes whole orders straight to the log, as broker and agents would: created, claimed, done."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from datetime import UTC, datetime

from bench.parts.part import Settings, emit, run, started
from muster.mesh import names, records
from muster.mesh.caller import Caller
from muster.mesh.connection import connect
from muster.mesh.jetstream import PubAck, Publisher
from muster.mesh.model import Job, JobState, OrderState


class Feeder(Settings, frozen=True, kw_only=True):
    """How many orders, and of what."""

    orders: int
    elements: tuple[str, ...]
    blueprint: str = "noop"
    digest: str = "0" * 64
    width: int = 3000
    """Records that may be unacknowledged."""


def life(settings: Feeder, number: int) -> list[tuple[str, bytes]]:
    """Subjects and records of one order, from its beginning to its end."""
    order, element = names.new_id(), settings.elements[number % len(settings.elements)]
    now = datetime.now(UTC)
    job = Job(name="nothing", state=JobState.FINISHED, started_at=now, finished_at=now)
    created = records.Created(
        order=order,
        blueprint=settings.blueprint,
        version=1,
        digest=settings.digest,
        by=Caller(name="bench"),
        element=element,
    )
    claimed = records.Claimed(order=order, attempt=1, element=element, agent="bench")
    done = records.Done(order=order, attempt=1, state=OrderState.FINISHED, jobs=(job,))
    return [
        (records.subject(created), records.encode(created)),
        (records.subject(claimed, element), records.encode(claimed)),
        (records.subject(done, element), records.encode(done)),
    ]


async def work(settings: Feeder) -> None:
    """Write all of it."""
    async with connect(settings.url, name="bench feeder") as client, Publisher(client) as publisher:
        await started()
        begin = time.monotonic_ns()
        waiting: deque[asyncio.Future[PubAck]] = deque()
        for number in range(settings.orders):
            for subject, data in life(settings, number):
                waiting.append(publisher.send(subject, data, within=60))
            while len(waiting) > settings.width:
                await waiting.popleft()
        last = 0
        for ack in waiting:
            last = (await ack).seq
        emit(begin=begin, end=time.monotonic_ns(), last=last)


if __name__ == "__main__":
    run(Feeder, work)
