"""Floor: publishes work to a stream, so many acknowledgements outstanding at a time."""

from __future__ import annotations

import time

import nats

from bench.parts.part import Settings, run, started, tell


class Publisher(Settings, frozen=True, kw_only=True):
    """How much of it."""

    count: int
    width: int
    """Publishes under way at a time."""
    subject: str = "floor.work"


def body(number: int) -> bytes:
    """A piece of work, of the size of the request that makes an order."""
    return b'{"id":"%016d","blueprint":"noop","on":"a"}' % number


async def work(settings: Publisher) -> None:
    """Publish all of it, and tell when it was acknowledged."""
    client = await nats.connect(settings.url, pending_size=-1)
    stream = client.jetstream(publish_async_max_pending=settings.width)
    await started()
    begin = time.monotonic_ns()
    for number in range(settings.count):
        await stream.publish_async(settings.subject, body(number))
    await stream.publish_async_completed()
    tell(begin=begin, end=time.monotonic_ns())
    await client.close()


if __name__ == "__main__":
    run(Publisher, work)
