"""Floor: pulls messages that the server publishes at a time, and reports how late each was received."""

from __future__ import annotations

import asyncio
import time

import msgspec
import nats
from nats.aio.msg import Msg

from bench.parts.part import Settings, emit, run, started


class Catcher(Settings, frozen=True, kw_only=True):
    """What it waits for."""

    count: int
    due: int
    """When they are due: nanoseconds since 1970."""
    timeout: float = 120.0


async def work(settings: Catcher) -> None:
    """One pull request for all of them: nothing is asked for while they come."""
    client = await nats.connect(settings.url, pending_size=-1)
    late: list[float] = []
    is_through = asyncio.Event()

    async def receive(message: Msg) -> None:
        if not message.reply:
            return
        late.append((time.time_ns() - settings.due) / 1e6)
        await message.ack()
        if len(late) == settings.count:
            is_through.set()

    inbox = client.new_inbox()
    await client.subscribe(inbox, cb=receive)
    request = {"batch": settings.count, "expires": int(settings.timeout * 1e9)}
    await client.publish("$JS.API.CONSUMER.MSG.NEXT.FLOOR_DUE.floor", msgspec.json.encode(request), reply=inbox)
    await client.flush()
    await started()
    async with asyncio.timeout(settings.timeout):
        await is_through.wait()
    emit(late=late)
    await client.close()


if __name__ == "__main__":
    run(Catcher, work)
