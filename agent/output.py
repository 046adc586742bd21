"""What a task prints, on its way to the output stream: in order, and no faster than the stream takes it.

Each output has a queue, bounded in bytes, and one asyncio task that writes it chunk by chunk, each one again until
it is acknowledged.  A chunk is sent when it is full or a tenth of a second old.  Whoever fills the queue is read no
further while it is full.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple

import structlog

from muster.mesh import names
from muster.mesh.errors import MusterError
from muster.mesh.jetstream import MSG_ID, Publisher

log = structlog.get_logger()

CHUNK: Final = 128 * 1024
"""Bytes of a full chunk."""

MOST_QUEUED: Final = 2 * CHUNK
"""Bytes that one output queues beyond the chunk that is being sent; what is read at once may come on top."""

MOST_QUEUED_BEHIND: Final = 4 * 1024
"""The same while the output of the task before has not arrived yet."""

SMALL: Final = 4 * 1024
"""Bytes of what is joined in the queue with what comes next: a part costs memory however small it is."""

MOST_IN_FLIGHT: Final = 96
"""Chunks of all outputs that may be sent and not acknowledged yet: 12 MiB."""

TAIL: Final = 64 * 1024
"""Bytes of the end of an output that are kept of what is beyond the limit."""

CHUNK_DELAY: Final = 0.1
"""Seconds that a chunk may wait to become full."""

RETRY_DELAY: Final = 0.5
"""Seconds until a chunk is sent again that was not acknowledged."""

CLAIM: Final = "Muster-Claim"
"""Which attempt at the order printed it: whoever reads puts a later one's output behind an earlier one's."""
ATTEMPT: Final = "Muster-Attempt"
OFFSET: Final = "Muster-Offset"


class Outputs:
    """What the outputs of all jobs of an agent share."""

    def __init__(self, publisher: Publisher, limit: int) -> None:
        self.publisher = publisher
        self.limit = limit
        """Bytes that are kept of one output, besides its tail."""
        self.in_flight = asyncio.Semaphore(MOST_IN_FLIGHT)


class Place(NamedTuple):
    """Where an output is of."""

    order: str
    element: str
    job: str


class Output:
    """One try of one job."""

    def __init__(
        self, outputs: Outputs, place: Place, *, claim: int, attempt: int, behind: Output | None = None
    ) -> None:
        self._outputs = outputs
        self._behind = behind
        """What the job before has printed: readers take an order's output in the stream's order."""
        order, element, job = place
        self._subject = names.output(order, element, job)
        # The claim is part of the id: a lost attempt may have sent output of a try that it never reported.
        self._id = f"{order}.{claim}.{names.token(job)}.{attempt}"
        self._headers = {CLAIM: str(claim), ATTEMPT: str(attempt)}
        self._queue: deque[bytes] = deque()
        self._size = 0
        """Bytes in the queue."""
        self._offset = 0
        """Bytes that were taken off the queue."""
        self._tail: Tail | None = None
        """What is beyond the limit, once that is reached."""
        self._is_finished = self._is_dropped = False
        self._fed, self._full, self._has_space = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self.on_space: Callable[[], None] | None = None
        """Called once, when the queue is not full any more."""

    @property
    def is_full(self) -> bool:
        """Whether whoever fills the queue should stop for a while."""
        most = MOST_QUEUED if self._behind is None else MOST_QUEUED_BEHIND
        return self._size >= most and not self._is_dropped

    @property
    def has_arrived(self) -> bool:
        """Whether all of it is on the stream, or dropped."""
        return self._writer is None or self._writer.done()

    def feed(self, data: bytes) -> bool:
        """Adds to the output; False if the queue is full now."""
        if self._is_dropped:
            return True
        if self._tail is not None:
            self._tail.add(data)
            return True
        left = self._outputs.limit - self._offset - self._size
        if len(data) > left:
            self._tail = Tail(data[left:])
            data = data[:left] + self._tail.announcement(self._outputs.limit)
        self._add(data)
        return not self.is_full

    async def write(self, data: bytes) -> None:
        """Adds to the output, and waits while the queue is full."""
        for start in range(0, len(data), CHUNK):
            if not self.feed(data[start : start + CHUNK]):
                await self.space()

    async def space(self) -> None:
        """Waits until the queue is not full any more."""
        while self.is_full:
            self._has_space.clear()
            await self._has_space.wait()

    def finish(self) -> None:
        """Nothing more is printed: add the end that was kept beyond the limit."""
        if self._tail is not None and not self._is_finished:
            self._add(self._tail.end())
        self._is_finished = True
        self._fed.set()
        self._full.set()

    async def arrived(self) -> None:
        """Waits until all of it is on the stream; nothing may be added any more."""
        self.finish()
        if self._writer is not None:
            await asyncio.wait({self._writer})

    async def drop(self) -> int:
        """Forgets what is not on the stream yet; how many bytes are still queued."""
        left, self._is_dropped = self._size, True
        self._queue.clear()
        self._size = 0
        self._notify()
        if self._writer is not None and not self._writer.done():
            self._writer.cancel()
            await asyncio.wait({self._writer})
        return left

    def _add(self, data: bytes) -> None:
        if self._queue and len(self._queue[-1]) + len(data) <= SMALL:
            self._queue[-1] += data
        elif data:
            self._queue.append(data)
        self._size += len(data)
        self._fed.set()
        if self._size >= CHUNK:
            self._full.set()
        if self._writer is None and self._queue:
            self._writer = asyncio.create_task(self._write())

    def _notify(self) -> None:
        """Says that there is space, if there is."""
        if self.is_full:
            return
        self._has_space.set()
        if self.on_space is not None:
            notify, self.on_space = self.on_space, None
            notify()

    # -- the task that writes ---------------------------------------------------------------------

    async def _write(self) -> None:
        try:
            if self._behind is not None:
                await self._behind.arrived()
                self._behind = None
                self._notify()
            while data := await self._chunk():
                await self._send(self._offset - len(data), data)
        except Exception:  # a bug, which must not hold up the task that prints
            log.exception("output.bug", subject=self._subject)
            self._is_dropped = True
            self._notify()

    async def _chunk(self) -> bytes:
        """The next chunk off the queue; empty at the end of the output."""
        while not self._queue and not self._is_finished:
            self._fed.clear()
            await self._fed.wait()
        if self._size < CHUNK and not self._is_finished:
            self._full.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(CHUNK_DELAY):
                    await self._full.wait()
        size, parts = 0, list[bytes]()
        while self._queue and (not parts or size + len(self._queue[0]) <= CHUNK):
            parts.append(self._queue.popleft())
            size += len(parts[-1])
        self._size -= size
        self._offset += size
        self._notify()
        return b"".join(parts)

    async def _send(self, offset: int, data: bytes) -> None:
        headers = {MSG_ID: f"{self._id}.{offset}", OFFSET: str(offset), **self._headers}
        while True:
            async with self._outputs.in_flight:
                try:
                    await self._outputs.publisher.send(self._subject, data, headers)
                except MusterError as error:
                    log.debug("output.retried", subject=self._subject, error=str(error))
                else:
                    return
            await asyncio.sleep(RETRY_DELAY)


class Tail:
    """The end of an output that is longer than its limit."""

    def __init__(self, data: bytes) -> None:
        self._count = 0
        self._kept = bytearray()
        self.add(data)

    def add(self, data: bytes) -> None:
        """Keeps no more than the end of it."""
        self._count += len(data)
        self._kept += data[-TAIL:]
        if len(self._kept) > 2 * TAIL:
            del self._kept[:-TAIL]

    @staticmethod
    def announcement(limit: int) -> bytes:
        """What is said where the limit is reached."""
        size, kept = f"{limit / 2**20:g} MiB", f"{TAIL // 1024} KiB"
        return f"\n[muster: the output limit of {size} is reached; the last {kept} follow at the end]\n".encode()

    def end(self) -> bytes:
        """The end, from the start of a line if there is one, and how much is missing before it."""
        kept = bytes(self._kept[-TAIL:])
        if self._count > len(kept):
            kept = kept[kept.find(b"\n", 0, TAIL // 4) + 1 :]
        missing = self._count - len(kept)
        return (f"[muster: {missing:,} bytes are missing here]\n".encode() if missing else b"") + kept
