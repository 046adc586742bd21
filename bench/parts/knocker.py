"""Delivers one webhook at a time over a kept connection, with pauses, and reports when each was sent."""

from __future__ import annotations

import asyncio
import random
import time
from urllib.parse import urlsplit

import msgspec

from bench.parts.caller import Sample
from bench.parts.deliverer import Deliverer, delivery
from bench.parts.part import emit, run, started

REQUEST_TIMEOUT = 30.0


class Knocker(Deliverer, frozen=True, kw_only=True):
    """What it delivers, and how often."""

    pause: tuple[float, float] = (0.01, 0.03)
    """Seconds between an answer and the next delivery: from, to."""


async def work(settings: Knocker) -> None:
    """Deliver, wait for the answer, pause; again.  All times are wall clock, in nanoseconds."""
    address = urlsplit(settings.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    samples = []
    await started()
    for number in range(settings.count):
        request = delivery(settings, address.netloc, number)
        begin = time.time_ns()
        writer.write(request)
        async with asyncio.timeout(REQUEST_TIMEOUT):
            answer = await answered(reader)
        samples.append(Sample(msgspec.json.decode(answer)["orders"][0], begin, time.time_ns()))
        await asyncio.sleep(random.uniform(*settings.pause))
    for start in range(0, len(samples), 100):
        emit(samples=samples[start : start + 100])
    writer.close()


async def answered(reader: asyncio.StreamReader) -> bytes:
    """The body of an answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    start = head.index(b"content-length: ") + 16
    return await reader.readexactly(int(head[start : head.index(b"\r", start)]))


if __name__ == "__main__":
    run(Knocker, work)
