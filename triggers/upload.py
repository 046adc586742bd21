"""Reads bodies of requests within limits of size, time and memory."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec

from muster.mesh.asgi import Receive
from muster.mesh.errors import TooLargeError, UnavailableError, UsageError

MOST_HELD: Final = 64 * 1024**2
"""Bytes of all bodies in memory; beyond it, requests are answered with 503."""


class StalledError(UsageError):
    """The request did not arrive in time."""

    status = 408
    code = "stalled"


class GoneError(Exception):
    """The sender closed the connection."""


class Uploads:
    """The bodies that are being read, with limits of their memory and time."""

    CHECK_INTERVAL: Final = 0.1
    """Seconds between two checks of deadlines: one timer for all, because `asyncio.timeout` costs one for each."""

    def __init__(self, most: int = MOST_HELD, timeout: float = 10.0) -> None:
        self.held = 0
        """Bytes in memory; a reader of a body returns them with `forget`."""
        self._most, self._timeout = most, timeout
        self._loop = asyncio.get_running_loop()
        self._ends: dict[asyncio.Task[Any], float] = {}
        self._late: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def hold(self, size: int) -> None:
        """Counts other bytes that are in memory.

        Raises:
            UnavailableError: the limit is reached.
        """
        if self.held + size > self._most:
            raise UnavailableError("too many bodies are being received")
        self.held += size

    def forget(self, size: int) -> None:
        """Releases the bytes of a body."""
        self.held -= size

    async def read(self, receive: Receive, limit: int) -> bytes:
        """Reads a whole body.

        Raises:
            TooLargeError: the body exceeds `limit` bytes; no more of it was read.
            StalledError: the body did not arrive in time.
            UnavailableError: the memory limit of all bodies is reached.
            GoneError: the sender closed the connection.
        """
        task = asyncio.current_task(self._loop)
        assert task is not None  # noqa: S101 - every coroutine runs in one
        self._ends[task] = self._loop.time() + self._timeout
        if self._timer is None:
            self._timer = self._loop.call_later(self.CHECK_INTERVAL, self._look)
        try:
            body, more = await _next(receive)
            if more:
                return await self._rest(receive, body, limit)
        except asyncio.CancelledError:
            if task not in self._late or task.uncancel():  # the task is cancelled for another reason
                raise
            raise StalledError(f"the body did not arrive within {self._timeout:g} s") from None
        finally:
            del self._ends[task]
            self._late.discard(task)
        self._hold(len(body), len(body), limit)
        return body

    def _look(self) -> None:
        now = self._loop.time()
        for task in [task for task, end in self._ends.items() if end <= now and task not in self._late]:
            self._late.add(task)
            task.cancel()
        self._timer = self._loop.call_later(self.CHECK_INTERVAL, self._look) if self._ends else None

    async def _rest(self, receive: Receive, start: bytes, limit: int) -> bytes:
        chunks, size, more = [start], len(start), True
        self._hold(size, size, limit)
        try:
            while more:
                chunk, more = await _next(receive)
                self._hold(len(chunk), size + len(chunk), limit)
                size += len(chunk)
                chunks.append(chunk)
        except BaseException:
            self.forget(size)
            raise
        return b"".join(chunks)

    def _hold(self, more: int, size: int, limit: int) -> None:
        if size > limit:
            raise TooLargeError(f"the body exceeds the limit of this trigger: {limit} bytes")
        self.hold(more)


async def _next(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise GoneError
    return message.get("body", b""), message.get("more_body", False)


class Drain(msgspec.Struct, frozen=True, kw_only=True):
    """Limits for reading and discarding a refused body.

    Closing a connection with unread bytes resets it, and loses the answer.  A sender can continue for a while.
    """

    bytes: int = 16 * 1024**2
    seconds: float = 10.0
    idle: float = 1.0
    """Seconds without new data."""

    async def __call__(self, receive: Receive) -> None:
        """Reads until the end or a limit."""
        loop = asyncio.get_running_loop()
        left, end = self.bytes, loop.time() + self.seconds
        try:
            async with asyncio.timeout(self.idle) as limit:
                while left > 0:
                    chunk, more = await _next(receive)
                    if not more:
                        return
                    left -= len(chunk)
                    limit.reschedule(min(end, loop.time() + self.idle))
        except (TimeoutError, GoneError):
            return
