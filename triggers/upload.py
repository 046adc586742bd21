"""Bodies of requests: read within limits of size, time and memory, or refused in words."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec

from muster.mesh.asgi import Receive
from muster.mesh.errors import TooLargeError, UnavailableError, UsageError

MOST_HELD: Final = 256 * 1024**2
"""Bytes of all bodies that are under way: beyond, senders are told to come back."""


class StalledError(UsageError):
    """The request did not arrive in time."""

    status = 408
    code = "stalled"


class GoneError(Exception):
    """The sender hung up: nobody is left to answer."""


class Uploads:
    """The bodies under way, of which there may only be so much in memory, each for so long."""

    LOOK: Final = 0.1
    """Seconds between two looks for those that take too long: one timer for all, `asyncio.timeout` costs one each."""

    def __init__(self, most: int = MOST_HELD, patience: float = 10.0) -> None:
        self.held = 0
        """Bytes; whoever has read a body gives them back with `forget`."""
        self._most, self._patience = most, patience
        self._loop = asyncio.get_running_loop()
        self._ends: dict[asyncio.Task[Any], float] = {}
        self._late: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def hold(self, size: int) -> None:
        """Count bytes that are in memory beside the bodies read here.

        Raises:
            UnavailableError: there are too many just now.
        """
        if self.held + size > self._most:
            raise UnavailableError("too much is being sent just now")
        self.held += size

    def forget(self, size: int) -> None:
        """A body is dealt with."""
        self.held -= size

    async def read(self, receive: Receive, limit: int) -> bytes:
        """The whole body.

        Raises:
            TooLargeError: it is longer than `limit` bytes; no more of it was read.
            StalledError: it takes too long.
            UnavailableError: there are too many bodies just now.
            GoneError: the sender hung up.
        """
        task = asyncio.current_task(self._loop)
        assert task is not None  # noqa: S101 - every coroutine runs in one
        self._ends[task] = self._loop.time() + self._patience
        if self._timer is None:
            self._timer = self._loop.call_later(self.LOOK, self._look)
        try:
            body, more = await _next(receive)
            if more:
                return await self._rest(receive, body, limit)
        except asyncio.CancelledError:
            if task not in self._late or task.uncancel():  # somebody else wants it to end
                raise
            raise StalledError(f"the body did not arrive within {self._patience:g} s") from None
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
        self._timer = self._loop.call_later(self.LOOK, self._look) if self._ends else None

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
            raise TooLargeError(f"the body is larger than this trigger takes: {limit} bytes")
        self.hold(more)


async def _next(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise GoneError
    return message.get("body", b""), message.get("more_body", False)


class Drain(msgspec.Struct, frozen=True, kw_only=True):
    """How far a body is read that was refused, and is thrown away.

    Closing a connection with unread bytes resets it, and our answer with it; so a sender who is still
    busy sending is let go on for a while.
    """

    bytes: int = 16 * 1024**2
    seconds: float = 10.0
    idle: float = 1.0
    """Seconds without anything new."""

    async def __call__(self, receive: Receive) -> None:
        """Read until the end or a bound."""
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
