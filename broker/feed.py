"""Events as they happen, for anyone in this process who listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from muster.mesh.events import Event

BACKLOG: Final = 4096
"""Events a listener may be behind before it is dropped; it resumes by its last event's id."""


class Listener:
    """One listener's queue: iterate over it.  It ends when its reader was too slow."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue(BACKLOG)
        self.overrun = False

    def offer(self, event: Event) -> None:
        """Put an event in, or end the listener if it is full."""
        if self.overrun:
            return
        if self._queue.qsize() >= BACKLOG - 1:
            self.overrun = True
            self._queue.put_nowait(None)
            return
        self._queue.put_nowait(event)

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Events from now on."""
        while (event := await self._queue.get()) is not None:
            yield event


class Feed:
    """Hands every event that the projection has committed to every listener."""

    def __init__(self) -> None:
        self._listeners: set[Listener] = set()
        self._hearers: list[Callable[[Sequence[Event]], None]] = []

    def publish(self, events: Sequence[Event]) -> None:
        """Hand events out."""
        for hear in self._hearers:
            hear(events)
        for listener in self._listeners:
            for event in events:
                listener.offer(event)

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
