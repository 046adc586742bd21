"""The floors: what nats-py does alone with the same server settings, each part a process of its own.

*raw*: publish, pull by the hundred, publish the result, acknowledge.  *raw+record*: the same with started and
done events, and a recorder that commits them to SQLite by batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import nats
from msgspec.structs import replace
from nats.js.api import AckPolicy, ConsumerConfig, RetentionPolicy, StreamConfig

from bench.parts.publisher import Publisher
from bench.parts.recorder import Recorder
from bench.parts.worker import Worker
from bench.process import Process, part
from muster.mesh.embedded_nats import EmbeddedNats, NatsSettings, half_of_the_host
from muster.mesh.settings import Durability

WIDTH: Final = 100
"""Publishes, or requests, under way at a time."""
WORKERS: Final = 2


@asynccontextmanager
async def server(folder: Path, durability: Durability) -> AsyncIterator[str]:
    """A fresh nats-server, set up as `muster up` does; its URL."""
    settings = NatsSettings(folder=folder / "nats", durability=durability, processors=half_of_the_host())
    async with EmbeddedNats(settings) as running:
        yield running.url


async def make_streams(url: str) -> None:
    """Work, results, events, and who takes them."""
    client = await nats.connect(url)
    stream = client.jetstream()
    await stream.add_stream(StreamConfig("FLOOR_WORK", subjects=["floor.work"], retention=RetentionPolicy.WORK_QUEUE))
    await stream.add_stream(StreamConfig("FLOOR_RESULTS", subjects=["floor.result"]))
    await stream.add_stream(StreamConfig("FLOOR_EVENTS", subjects=["floor.event.*"]))
    await stream.add_consumer(
        "FLOOR_WORK", ConsumerConfig("floor", ack_policy=AckPolicy.EXPLICIT, max_ack_pending=10_000)
    )
    await stream.add_consumer(
        "FLOOR_EVENTS", ConsumerConfig("record", ack_policy=AckPolicy.ALL, max_ack_pending=100_000)
    )
    await client.close()


@asynccontextmanager
async def floor(folder: Path, durability: Durability, *, record: bool, idle: bool = False) -> AsyncIterator[Floor]:
    """A server with its streams, workers and, if wished, a recorder, all set up and started.

    Idle, workers fetch one message at a time and the recorder two (started, done): nats-py's `fetch` waits until a
    batch is full.
    """
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(server(folder, durability))
        await make_streams(url)
        started = Floor(url, folder)
        if record:
            recorder = Recorder(url=url, path=str(folder / "record.sqlite"), full_sync=durability == "safe")
            recorder = replace(recorder, announce=True, batch=2, timeout=5.0) if idle else recorder
            started.recorder = await stack.enter_async_context(part("recorder", recorder, folder))
            await started.recorder.go()
        settings = Worker(url=url, record=record)
        settings = replace(settings, batch=1, loops=1, timeout=5.0, stamps=True) if idle else settings
        for _ in range(WORKERS):
            worker = await stack.enter_async_context(part("worker", settings, folder))
            started.workers.append(worker)
            await worker.go()
        yield started


class Floor:
    """The running parts of one."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.workers: list[Process] = []
        self.recorder: Process | None = None

    async def rate(self, count: int, width: int = WIDTH) -> float:
        """Pieces of work a second, from the first publish to the last one that has ended."""
        ends = self.workers if self.recorder is None else [self.recorder]
        async with part("publisher", Publisher(url=self.url, count=count, width=width), self.folder) as publisher:
            await publisher.go()
            through = asyncio.create_task(_through(ends, count))
            begin = int((await publisher.facts())["begin"])
            return count / ((await through - begin) / 1e9)


async def _through(ends: list[Process], count: int) -> int:
    """Returns when the last of `count` was reported."""
    left, last = count, 0
    lines = {asyncio.create_task(process.facts()): process for process in ends}
    while left > 0:
        done, _ = await asyncio.wait(lines, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            process, facts = lines.pop(task), task.result()
            left -= int(facts["count"])
            last = max(last, int(facts["at"]))
            lines[asyncio.create_task(process.facts())] = process
    for task in lines:
        task.cancel()
    return last


async def publish_rate(folder: Path, durability: Durability, count: int, *, each_awaited: bool) -> float:
    """Publishes that are acknowledged a second, with nobody there to take them."""
    async with server(folder, durability) as url:
        await make_streams(url)
        settings = Publisher(url=url, count=count, width=WIDTH, each_awaited=each_awaited)
        async with part("publisher", settings, folder) as publisher:
            await publisher.go()
            facts = await publisher.facts()
            return count / ((int(facts["end"]) - int(facts["begin"])) / 1e9)
