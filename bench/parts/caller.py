"""Asks for one thing at a time, with pauses, and reports when each was asked for and when its end was published.

With `subject` it publishes work for a floor, else it makes orders.  All times are wall clock, in nanoseconds.
"""

from __future__ import annotations

import asyncio
import random
import time

import msgspec
import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from bench.parts.part import Settings, emit, run, started

REQUEST_TIMEOUT = 30.0


class Caller(Settings, frozen=True, kw_only=True):
    """What it asks for, and how it hears of the end."""

    count: int
    ends: str = ""
    """Where each end is published; none: it does not wait for one."""
    subject: str = ""
    """A floor's stream subject."""
    element: str = ""
    blueprint: str = ""
    pause: tuple[float, float] = (0.01, 0.03)
    """Seconds between an end and the next beginning: from, to."""


class Sample(msgspec.Struct):
    """One of them."""

    id: str
    begin: int
    end: int = 0


class Ends:
    """Hears of one end at a time."""

    def __init__(self) -> None:
        self._heard = asyncio.Event()
        self._at = 0

    async def heard(self, _: Msg) -> None:
        """The end."""
        self._at = time.time_ns()
        self._heard.set()

    async def next(self) -> int:
        """When the end was heard of."""
        async with asyncio.timeout(REQUEST_TIMEOUT):
            await self._heard.wait()
        self._heard.clear()
        return self._at


async def work(settings: Caller) -> None:
    """Ask, wait, pause; again."""
    client = await nats.connect(settings.url)
    ends = Ends()
    if settings.ends:
        await client.subscribe(settings.ends, cb=ends.heard)
        await client.flush()
    samples = []
    await started()
    for number in range(settings.count):
        sample = await (asked_floor if settings.subject else asked_mesh)(client, settings, number)
        if settings.ends:
            sample.end = await ends.next()
        samples.append(sample)
        await asyncio.sleep(random.uniform(*settings.pause))
    for start in range(0, len(samples), 100):
        emit(samples=samples[start : start + 100])
    await client.close()


async def asked_floor(client: Client, settings: Caller, number: int) -> Sample:
    """Publish a piece of work."""
    stream = client.jetstream()
    begin = time.time_ns()
    await stream.publish(settings.subject, b'{"id":"%016d","blueprint":"noop","on":"a"}' % number)
    return Sample(f"{number:016}", begin)


async def asked_mesh(client: Client, settings: Caller, _: int) -> Sample:
    """Make an order."""
    body = msgspec.json.encode({"blueprint": settings.blueprint, "on": settings.element})
    begin = time.time_ns()
    answer = await client.request("muster.api.orders.create", body, timeout=REQUEST_TIMEOUT)
    return Sample(str(msgspec.json.decode(answer.data)["orders"][0]["id"]), begin)


if __name__ == "__main__":
    run(Caller, work)
