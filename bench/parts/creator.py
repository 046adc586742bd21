"""Makes orders over NATS, so many requests outstanding at a time, and reports how many were accepted."""

from __future__ import annotations

import asyncio
import time

import msgspec
import nats
from nats.aio.msg import Msg

from bench.parts.part import Settings, emit, run, started

REQUEST_TIMEOUT = 60.0


class Creator(Settings, frozen=True, kw_only=True):
    """Which orders, and how many."""

    count: int
    width: int
    """Requests under way at a time."""
    elements: tuple[str, ...] = ()
    """Their targets, in turn."""
    where: str = ""
    """Instead: for whoever matches this filter and is free."""
    blueprint: str = "noop"


class Answer(msgspec.Struct):
    """All that is of interest."""

    orders: list[msgspec.Raw] = []


_answer = msgspec.json.Decoder(Answer)


async def work(settings: Creator) -> None:
    """Creates all of them, and reports when they were accepted.

    `Client.request` makes a future and a timer for each request; one subscription for all answers, and a
    semaphore, does the same with nats-py's `publish`, as `publish_async` does for the floor's publisher.
    """
    client = await nats.connect(settings.url, pending_size=-1)
    inbox = client.new_inbox()
    room = asyncio.Semaphore(settings.width)
    accepted = 0
    refused: list[str] = []
    through = asyncio.Event()

    async def answered(message: Msg) -> None:
        nonlocal accepted
        orders = len(_answer.decode(message.data).orders)
        accepted += orders
        if not orders:
            refused.append(message.data.decode())
        room.release()
        if accepted + len(refused) >= settings.count:
            through.set()

    await client.subscribe(inbox, cb=answered)
    await client.flush()
    whom: list[dict[str, str | bool]] = [{"on": element} for element in settings.elements]
    whom = whom or [{"where": settings.where, "queue": True}]
    bodies = [msgspec.json.encode({"blueprint": settings.blueprint, **target}) for target in whom]
    await started()
    begin = time.monotonic_ns()
    for number in range(settings.count):
        await room.acquire()
        await client.publish("muster.api.orders.create", bodies[number % len(bodies)], reply=inbox)
    async with asyncio.timeout(REQUEST_TIMEOUT):
        await through.wait()
    emit(begin=begin, end=time.monotonic_ns(), accepted=accepted, refused=refused[:3])
    await client.close()


if __name__ == "__main__":
    run(Creator, work)
