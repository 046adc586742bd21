"""Floor: pulls work by the hundred, publishes each result, acknowledges.

With `record`, it also publishes that the work has started and that it is done, for a recorder.
"""

from __future__ import annotations

import asyncio
import time

import msgspec
import nats
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from bench.parts.part import Settings, emit, run, started


class Worker(Settings, frozen=True, kw_only=True):
    """How it works."""

    record: bool = False
    batch: int = 100
    """Messages asked for at a time."""
    loops: int = 2
    """Batches under way at a time."""
    stamps: bool = False
    """Report when each was received."""
    timeout: float = 0.05
    """Seconds that `fetch` waits for a batch to be full."""


class Work(msgspec.Struct):
    """What is published as work."""

    id: str
    blueprint: str
    on: str


_work = msgspec.json.Decoder(Work)
_encode = msgspec.json.Encoder().encode


async def work(settings: Worker) -> None:
    """Work until the server goes away."""
    client = await nats.connect(settings.url, pending_size=-1, allow_reconnect=False)
    await started()
    async with asyncio.TaskGroup() as group:
        for _ in range(settings.loops):
            group.create_task(pull(client, settings))


async def pull(client: Client, settings: Worker) -> None:
    """One batch after the other."""
    stream = client.jetstream()
    subscription = await stream.pull_subscribe_bind(consumer="floor", stream="FLOOR_WORK")
    while True:
        try:
            batch = await subscription.fetch(settings.batch, timeout=settings.timeout)
        except (nats.errors.TimeoutError, TimeoutError):
            continue
        except nats.errors.Error:
            return
        if not batch:
            continue
        received = time.time_ns()
        handle = recorded if settings.record else plain
        acks = []
        for message in batch:
            acks += [await stream.publish_async(subject, data) for subject, data in handle(message)]
        for ack in acks:
            await ack
        for message in batch:
            await message.ack()
        emit(count=len(batch), at=time.monotonic_ns())
        if settings.stamps:
            emit(received={_work.decode(message.data).id: received for message in batch})


def plain(message: Msg) -> list[tuple[str, bytes]]:
    """The result alone."""
    ident = _work.decode(message.data).id
    return [("floor.result", _encode({"id": ident, "state": "finished"}))]


def recorded(message: Msg) -> list[tuple[str, bytes]]:
    """Started, and done: the event of the end carries the result, so it is not published twice."""
    wall, ident = time.time_ns(), _work.decode(message.data).id
    return [
        ("floor.event.started", _encode({"id": ident, "started": wall})),
        ("floor.event.done", _encode({"id": ident, "state": "finished", "done": time.time_ns()})),
    ]


if __name__ == "__main__":
    run(Worker, work)
