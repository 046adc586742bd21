"""Server-sent events (WHATWG HTML §9.2): written by hand, because a stream here has a pulse and an end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import aclosing, asynccontextmanager

import msgspec
from litestar.response import Stream

from muster.broker.api.problems import unexpected
from muster.mesh.budget import Budget
from muster.mesh.errors import MusterError

PULSE = 15.0
"""Seconds of silence after which a comment says that the stream lives; proxies cut silent connections."""

MEDIA_TYPE = "text/event-stream"

_HEADERS = {
    "content-type": f"{MEDIA_TYPE}; charset=utf-8",  # Litestar prefers a handler's media type to its stream's
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}

_AHEAD = 8
"""Messages between the source and the socket."""

_AHEAD_SIZE = 1 << 20
"""Bytes of them; a larger message goes alone."""


_LINE_ENDS = {char.encode(): f"\\u{ord(char):04x}".encode() for char in "\x85\u2028\u2029"}
"""What some readers take for the end of a line though the standard does not; in JSON it occurs in texts only."""


def message(data: bytes, *, event: str = "", ident: str = "") -> bytes:
    """One event; `data` is JSON on one line."""
    for char, escaped in _LINE_ENDS.items():
        data = data.replace(char, escaped)
    head = (f"event: {event}\n" if event else "") + (f"id: {ident}\n" if ident else "")
    return b"%sdata: %s\n\n" % (head.encode(), data)


def stream(messages: AsyncGenerator[bytes, None], closing: asyncio.Event) -> Stream:
    """The answer that sends `messages` until they end, the client leaves or the broker goes down."""
    return Stream(_with_pulse(messages, closing), media_type=MEDIA_TYPE, headers=_HEADERS)


async def _with_pulse(messages: AsyncGenerator[bytes, None], closing: asyncio.Event) -> AsyncIterator[bytes]:
    yield b": muster\nretry: 1000\n\n"
    queue: asyncio.Queue[bytes | None] = asyncio.Queue(_AHEAD)
    budget = Budget(_AHEAD_SIZE)
    async with _running(_pump(messages, queue, budget)), _running(_end(queue, closing)):
        while True:
            try:
                async with asyncio.timeout(PULSE):
                    found = await queue.get()
            except TimeoutError:
                yield b": pulse\n\n"
                continue
            if found is None:
                return
            yield found
            budget.give(len(found))


async def _pump(messages: AsyncGenerator[bytes, None], queue: asyncio.Queue[bytes | None], budget: Budget) -> None:
    """Move messages into the queue; one task walks the source, so that it may hold scopes of its own."""
    try:
        async with aclosing(messages):
            async for found in messages:
                await budget.take(len(found))
                await queue.put(found)
        await queue.put(None)
        return
    except MusterError as error:
        last = message(msgspec.json.encode(error.as_problem()), event="error")
    except Exception as error:  # noqa: BLE001 - the answer has started: all that is left is to say so in the stream
        last = message(msgspec.json.encode(unexpected(error, "a stream").as_problem()), event="error")
    await budget.take(len(last))
    await queue.put(last)
    await queue.put(None)


async def _end(queue: asyncio.Queue[bytes | None], closing: asyncio.Event) -> None:
    await closing.wait()
    await queue.put(None)


@asynccontextmanager
async def _running(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
