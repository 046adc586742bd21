"""What tasks print, on its way to the output stream: in chunks, in order, no faster than the stream takes it.

A chunk is sent when it is full or a tenth of a second old.  Chunks that are not acknowledged yet are
kept, to be sent again; their number is bounded, and a job that reaches the bound is read no further
until the stream has caught up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

import structlog

from muster.mesh import names
from muster.mesh.errors import UnavailableError
from muster.mesh.jetstream import MSG_ID, PubAck, Publisher
from muster.mesh.service import Service

log = structlog.get_logger()

CHUNK: Final = 128 * 1024
"""Bytes of a full chunk."""

TAIL: Final = 64 * 1024
"""Bytes of the end of an output that are kept of what is beyond the limit."""

DELAY: Final = 0.1
"""Seconds that a chunk may wait to become full."""

JOB_WINDOW: Final = 32
"""Chunks of one job that may be unacknowledged."""

AGENT_WINDOW: Final = 96
"""Chunks of all jobs that may be unacknowledged: what output may cost in memory (12 MiB)."""

RESEND: Final = 0.5
"""Seconds between two tries to send what was not acknowledged."""

CLAIM: Final = "Muster-Claim"
"""Which attempt at the order printed it: whoever reads puts a later one's output behind an earlier one's."""
ATTEMPT: Final = "Muster-Attempt"
OFFSET: Final = "Muster-Offset"


class Chunk:
    """A part of a job's output, until it is acknowledged."""

    __slots__ = ("data", "failed", "offset")

    def __init__(self, offset: int, data: bytes) -> None:
        self.offset = offset
        self.data = data
        self.failed = False


class Outputs(Service):
    """The output of all jobs of an agent: the bound on memory, and the second tries."""

    def __init__(self, publisher: Publisher, limit: int) -> None:
        super().__init__()
        self.publisher = publisher
        self.limit = limit
        self.unacknowledged = 0
        self._blocked: deque[Output] = deque()
        self._failed: set[Output] = set()

    @property
    def has_room(self) -> bool:
        """Whether one more chunk may be sent."""
        return self.unacknowledged < AGENT_WINDOW

    def wait_for_room(self, output: Output) -> None:
        """Tell `output` when there is room again."""
        self._blocked.append(output)

    def acknowledged(self) -> None:
        """A chunk is off our hands."""
        self.unacknowledged -= 1
        if self._blocked:
            self._blocked.popleft().flow()

    def failed(self, output: Output) -> None:
        """Not all of it arrived: send it again."""
        self._failed.add(output)

    async def run(self) -> None:
        """Send again what failed, until cancelled."""
        self.ready.set()
        while True:
            await asyncio.sleep(RESEND)
            again, self._failed = self._failed, set()
            for output in again:
                output.resend()


class Place(NamedTuple):
    """Where an output is of."""

    order: str
    element: str
    job: str


class Output:
    """One try of one job."""

    __slots__ = (
        "_attempt",
        "_behind",
        "_buffer",
        "_chunks",
        "_claim",
        "_dropped",
        "_given_up",
        "_has_failed",
        "_headers_id",
        "_offset",
        "_outputs",
        "_subject",
        "_tail",
        "_timer",
        "_waiters",
        "_waits_for_room",
        "on_room",
    )

    def __init__(
        self, outputs: Outputs, place: Place, *, claim: int, attempt: int, behind: Output | None = None
    ) -> None:
        self._outputs = outputs
        self._behind = behind
        """What the job before has printed: readers take an order's output in the stream's order."""
        order, element, job = place
        self._subject = names.output(order, element, job)
        self._claim, self._attempt = claim, attempt
        # The claim is part of the id: a lost attempt may have sent output of a try that it never reported.
        self._headers_id = f"{order}.{claim}.{names.token(job)}.{attempt}"
        self._buffer = bytearray()
        self._chunks: deque[Chunk] = deque()
        self._offset = 0
        self._dropped = 0
        """Bytes beyond the limit, once it is reached."""
        self._tail: bytearray | None = None
        """The last of them."""
        self._given_up = False
        self._has_failed = False
        """Something is to be sent again; what comes behind it waits, for readers take output in the stream's order."""
        self._timer: asyncio.TimerHandle | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self._waits_for_room = False
        self.on_room: Callable[[], None] | None = None
        """Called once, when it is not behind any more."""

    @property
    def is_sent(self) -> bool:
        """Whether all of it is on its way, and what failed was sent again."""
        return self._given_up or not (self._buffer or self._has_failed)

    @property
    def is_behind(self) -> bool:
        """Whether whoever fills it should stop for a while."""
        return len(self._buffer) >= CHUNK

    def feed(self, data: bytes) -> bool:
        """Add to the output; False if it `is_behind` now."""
        if self._given_up:
            return True
        if self._tail is not None:
            self._drop(data)
            return True
        left = self._outputs.limit - self._offset - len(self._buffer)
        if len(data) > left:
            self._tail = bytearray()
            self._drop(data[left:])
            limit, kept = f"{self._outputs.limit / 2**20:g} MiB", f"{TAIL // 1024} KiB"
            note = f"\n[muster: the output limit of {limit} is reached; the last {kept} follow at the end]\n"
            data = data[:left] + note.encode()
        self._buffer += data
        self.flow()
        return not self.is_behind

    def _drop(self, data: bytes) -> None:
        """Keep no more than the end of what is beyond the limit."""
        assert self._tail is not None  # noqa: S101 - the limit is reached
        self._dropped += len(data)
        self._tail += data[-TAIL:]
        if len(self._tail) > 2 * TAIL:
            del self._tail[:-TAIL]

    def _end_of_tail(self) -> bytes:
        """The end of what is beyond the limit, from the start of a line if there is one, with how much is missing."""
        assert self._tail is not None  # noqa: S101 - the limit is reached
        kept = bytes(self._tail[-TAIL:])
        if self._dropped > len(kept):
            kept = kept[kept.find(b"\n", 0, TAIL // 4) + 1 :]
        missing = self._dropped - len(kept)
        return (f"[muster: {missing:,} bytes are missing here]\n".encode() if missing else b"") + kept

    async def write(self, data: bytes) -> None:
        """Add to the output, and wait while it is behind."""
        for start in range(0, len(data), CHUNK):
            if not self.feed(data[start : start + CHUNK]):
                await self.room()

    async def room(self) -> None:
        """Wait until it is not behind any more."""
        while self.is_behind:
            await self._changed()

    async def flushed(self) -> None:
        """Wait until all of it is acknowledged; nothing may be added any more."""
        self.finish()
        self._send_rest()
        while self._chunks or self._buffer:
            await self._changed()
            self._send_rest()

    def finish(self) -> None:
        """Nothing more is printed: add the end that was kept beyond the limit."""
        if self._tail is not None and not self._given_up:
            self._buffer += self._end_of_tail()
            self._tail = None
            self.flow()

    def give_up(self) -> None:
        """Forget what is not acknowledged: this attempt does not count any more."""
        self._given_up = True
        self._buffer.clear()
        self._stop_timer()
        for _ in range(len(self._chunks)):
            self._chunks.popleft()
            self._outputs.acknowledged()
        self._tell()

    def flow(self) -> None:
        """Send what is full, as far as there is room."""
        self._waits_for_room = False
        while len(self._buffer) >= CHUNK and self._has_room():
            self._send(CHUNK)
        if self._buffer and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(DELAY, self._late)
        self._tell()

    def _late(self) -> None:
        self._timer = None
        self._send_rest()
        if self._buffer:
            self._timer = asyncio.get_running_loop().call_later(DELAY, self._late)

    def _send_rest(self) -> None:
        while self._buffer and self._has_room():
            self._send(CHUNK)
        if not self._buffer:
            self._stop_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _has_room(self) -> bool:
        if self._behind is not None:
            self._behind._send_rest()  # noqa: SLF001 - its own kind
            if not self._behind.is_sent:
                return False  # the timer looks again
            self._behind = None
        if self._has_failed or len(self._chunks) >= JOB_WINDOW:
            return False
        if self._outputs.has_room:
            return True
        if not self._waits_for_room:
            self._waits_for_room = True
            self._outputs.wait_for_room(self)
        return False

    def _send(self, size: int) -> None:
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        chunk = Chunk(self._offset, data)
        self._offset += len(data)
        self._chunks.append(chunk)
        self._outputs.unacknowledged += 1
        self._publish(chunk)

    def _publish(self, chunk: Chunk) -> None:
        headers = {
            MSG_ID: f"{self._headers_id}.{chunk.offset}",
            CLAIM: str(self._claim),
            ATTEMPT: str(self._attempt),
            OFFSET: str(chunk.offset),
        }
        chunk.failed = False
        try:
            future = self._outputs.publisher.send(self._subject, chunk.data, headers)
        except UnavailableError:
            self._fail(chunk)
            return
        future.add_done_callback(lambda done: self._answered(chunk, done))

    def _answered(self, chunk: Chunk, done: asyncio.Future[PubAck]) -> None:
        if self._given_up or done.cancelled():
            return
        if done.exception() is not None:
            self._fail(chunk)
            return
        try:
            self._chunks.remove(chunk)  # the first one, unless one before it failed
        except ValueError:  # acknowledged twice: it was sent twice
            return
        self._outputs.acknowledged()
        self.flow()

    def _fail(self, chunk: Chunk) -> None:
        chunk.failed = self._has_failed = True
        self._outputs.failed(self)

    def resend(self) -> None:
        """Send what failed once more, in order, and then what waited behind it."""
        self._has_failed = False
        for chunk in self._chunks:
            if chunk.failed:
                self._publish(chunk)
        self.flow()

    async def _changed(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def _tell(self) -> None:
        if self.on_room is not None and not self.is_behind:
            tell, self.on_room = self.on_room, None
            tell()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
