"""Floor: publishes work to a stream, so many acknowledgements outstanding at a time."""

from __future__ import annotations

import asyncio
import time

import nats
from nats.js import JetStreamContext

from bench.parts.part import Settings, emit, run, started


class Publisher(Settings, frozen=True, kw_only=True):
    """How much of it."""

    count: int
    width: int
    """Publishes under way at a time."""
    each_awaited: bool = False
    """Whether each is an awaited `publish` in one of so many tasks, or a `publish_async`, which costs half as much."""
    subject: str = "floor.work"


def body(number: int) -> bytes:
    """A piece of work, of the size of the request that makes an order."""
    return b'{"id":"%016d","blueprint":"noop","on":"a"}' % number


async def work(settings: Publisher) -> None:
    """Publish all of it, and report when it was acknowledged."""
    client = await nats.connect(settings.url, pending_size=-1)
    stream = client.jetstream(publish_async_max_pending=settings.width)
    await started()
    begin = time.monotonic_ns()
    await (each_awaited if settings.each_awaited else together)(stream, settings)
    emit(begin=begin, end=time.monotonic_ns())
    await client.close()


async def together(stream: JetStreamContext, settings: Publisher) -> None:
    """One task; nats-py holds it back while too many are unacknowledged."""
    for number in range(settings.count):
        await stream.publish_async(settings.subject, body(number))
    await stream.publish_async_completed()


async def each_awaited(stream: JetStreamContext, settings: Publisher) -> None:
    """As many tasks as may be under way."""
    left = iter(range(settings.count))

    async def one_after_the_other() -> None:
        for number in left:
            await stream.publish(settings.subject, body(number))

    async with asyncio.TaskGroup() as group:
        for _ in range(settings.width):
            group.create_task(one_after_the_other())


if __name__ == "__main__":
    run(Publisher, work)
