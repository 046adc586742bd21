"""Events as they happen, for anyone in this process who listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from muster.mesh.events import Event

BACKLOG: Final = 4096
"""Events that a listener may be behind before it is dropped; it resumes by its last event's id."""

BACKLOG_SIZE: Final = 4 * 2**20
"""Bytes of their JSON."""


class Listener:
    """One listener's queue: iterate over it.  It ends when its reader was too slow."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[tuple[Event | None, int]] = asyncio.Queue()
        self._size = 0
        self.overrun = False

    def offer(self, event: Event, size: int) -> None:
        """Puts an event in, or ends the listener if it is full."""
        if self.overrun:
            return
        if self._queue.qsize() >= BACKLOG or (self._size and self._size + size > BACKLOG_SIZE):
            self.overrun = True
            self._queue.put_nowait((None, 0))
            return
        self._size += size
        self._queue.put_nowait((event, size))

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Events from now on."""
        while True:
            event, size = await self._queue.get()
            if event is None:
                return
            self._size -= size
            yield event


class Feed:
    """Hands every event that the projection has committed to every listener."""

    def __init__(self) -> None:
        self._listeners: set[Listener] = set()
        self._hearers: list[Callable[[Sequence[Event]], None]] = []

    def publish(self, events: Sequence[Event], sizes: Sequence[int]) -> None:
        """Hands events out; `sizes` are those of their JSON in bytes."""
        for hear in self._hearers:
            hear(events)
        for listener in self._listeners:
            for event, size in zip(events, sizes, strict=True):
                listener.offer(event, size)

    @contextmanager
    def heard_by(self, hear: Callable[[Sequence[Event]], None]) -> Iterator[None]:
        """Call a function of this process with each batch: it must be short and must not wait."""
        self._hearers.append(hear)
        try:
            yield
        finally:
            self._hearers.remove(hear)

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[Listener]:
        """Listen from now on; what happened before is in the projection (`Query.events`)."""
        listener = Listener()
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
