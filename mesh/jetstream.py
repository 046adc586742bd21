"""The JetStream verbs of the hot path, kept short: publish and wait, pull without end, acknowledge.

nats-py's own `publish` and `fetch` cost several tasks and timers a message; these cost a dictionary
entry.  Everything else (streams, buckets, consumers) goes through nats-py.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import msgspec
import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from muster.mesh import names, storing
from muster.mesh.asking import ANSWER_TIMEOUT, Asker
from muster.mesh.connection import settled
from muster.mesh.errors import StorageError, UnavailableError
from muster.mesh.service import Service
from muster.mesh.wire import MAX_LINE, leave, post, subscribe, unsubscribe

log = structlog.get_logger()

__all__ = [
    "ACK_TIMEOUT",
    "BATCH_COMMIT",
    "BATCH_ID",
    "BATCH_SEQUENCE",
    "EXPECTED_SEQUENCE",
    "EXPECTED_SUBJECT",
    "MSG_ID",
    "WRONG_LAST_SEQUENCE",
    "LostRaceError",
    "PubAck",
    "Publisher",
    "Puller",
    "acknowledge",
    "compare_and_set",
    "deliveries",
    "moment",
    "pending",
    "place",
    "post",
    "sequence",
    "stamp",
]

MSG_ID: Final = "Nats-Msg-Id"
BATCH_ID: Final = "Nats-Batch-Id"
BATCH_SEQUENCE: Final = "Nats-Batch-Sequence"
BATCH_COMMIT: Final = "Nats-Batch-Commit"
EXPECTED_SEQUENCE: Final = "Nats-Expected-Last-Subject-Sequence"
EXPECTED_SUBJECT: Final = "Nats-Expected-Last-Subject-Sequence-Subject"

WRONG_LAST_SEQUENCE: Final = frozenset({10071, 10164})
"""JetStream's err_code when a compare-and-set lost (10164: several subjects matched the filter)."""

ACK_TIMEOUT: Final = ANSWER_TIMEOUT
"""Seconds to wait for an acknowledgement."""

DOUBT: Final = 1.0
"""Seconds without one after which the server is asked whether the stream can store anything."""

WARN_EVERY: Final = 60.0
"""Seconds between two lines in the log about that."""


class PubAck(msgspec.Struct):
    """JetStream's answer to a publish."""

    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    error: storing.ApiError | None = None


class LostRaceError(Exception):
    """A compare-and-set found another last sequence: somebody was faster."""


_ack = msgspec.json.Decoder(PubAck)


def compare_and_set(subject: str, sequence: int) -> dict[str, str]:
    """Headers that let a publish pass only if `sequence` is the last one on `subject` (a filter)."""
    return {EXPECTED_SEQUENCE: str(sequence), EXPECTED_SUBJECT: subject}


class Publisher(Asker[PubAck]):
    """Publishes to JetStream and waits for the acknowledgement, any number at a time.

    A stream that cannot be written acknowledges nothing, and refuses nothing either: it is asked why.
    """

    LATE = "JetStream did not acknowledge a message in time"

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._doubted: set[str] = set()
        """Streams that have been asked, and did not answer yet."""
        self._warn_after = 0.0
        """When to log again why nothing is stored, in the loop's time."""

    def sweep(self, now: float) -> None:
        """Give up what is overdue, and what goes to a stream that stores nothing."""
        super().sweep(now)
        late = {names.stream_of(asked.subject) for asked in self._waiting.values() if asked.at < now - DOUBT}
        for stream in late - self._doubted:
            if stream is None:
                continue
            try:
                answer = self.ask_why(stream)
            except UnavailableError:  # the connection is lost: `renew` will end them all
                return
            self._doubted.add(stream)
            answer.add_done_callback(partial(self._learned, stream))

    def ask_why(self, stream: str) -> asyncio.Future[PubAck]:
        """Ask whether a stream can store anything; the future raises StorageError if not, and something else if so.

        Raises:
            UnavailableError: there is no connection.
        """
        return self.send(storing.where(stream), storing.QUESTION)

    def _learned(self, stream: str, answer: asyncio.Future[PubAck]) -> None:
        self._doubted.discard(stream)
        error = None if answer.cancelled() else answer.exception()
        if isinstance(error, StorageError):
            if (now := self._loop.time()) >= self._warn_after:
                self._warn_after = now + WARN_EVERY
                log.warning("stream.stuck", stream=stream, why=error.detail)
            self._give_up(
                [reply for reply, asked in self._waiting.items() if names.stream_of(asked.subject) == stream], error
            )

    def read(self, message: Msg) -> PubAck:
        """The acknowledgement.

        Raises:
            LostRaceError: a compare-and-set failed.
            StorageError: the server has no space for it.
            UnavailableError: it is none.
        """
        if not message.data:
            raise UnavailableError("no stream takes this subject; is the mesh set up, and JetStream on?")
        ack = _ack.decode(message.data)
        if ack.error is None:
            return ack
        if ack.error.err_code in WRONG_LAST_SEQUENCE:
            raise LostRaceError(ack.error.description)
        raise storing.why(ack.error)

    async def publish(
        self, subject: str, data: bytes, headers: Mapping[str, str] | None = None, *, within: float = ACK_TIMEOUT
    ) -> PubAck:
        """Publish and wait until it is stored.

        Raises:
            LostRaceError: the compare-and-set in `headers` failed.
            StorageError: its stream can store nothing.
            UnavailableError: no acknowledgement came in time; it can be stored nevertheless, so
                try again with the same message id.
        """
        return await self.send(subject, data, headers, within=within)


class Puller(Service):
    """Pulls from one consumer without end, and hands out what came.

    The server never sends more than was asked for: at most `limit` messages, and at most `size` bytes, are unread
    here at any time.  So memory is bounded and a slow reader slows the stream, not the process.  A pull that
    expired, a reconnect, or silence for longer than the heartbeat all lead to the next pull.

    With `receive`, messages go there as they come, and `limit` bounds what is asked for; without,
    `batch` and `one` hand them out.

    With `size`, one request is open at a time, so that it is known how many bytes of it are left.
    """

    heartbeat = 15.0
    """Seconds; the server says it is alive at this interval while it has nothing to send.

    A server that goes away ends the connection, so this only finds a consumer that is gone without a word;
    every 5 s, it cost the server more than all else of a thousand idle agents.
    """
    expires = 120.0
    """Seconds until an idle pull is renewed."""

    def __init__(
        self,
        client: Client,
        stream: str,
        consumer: str,
        *,
        limit: int,
        size: int = 0,
        receive: Callable[[Msg], None] | None = None,
    ) -> None:
        super().__init__()
        self._client = client
        self._size = size and max(size, 2 * (client.max_payload + MAX_LINE))
        """Bytes; a request for less than one message would never be answered.  0: any number."""
        self._asked_size = 0
        self._unread_size = 0
        self._api = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self.stream, self.consumer = stream, consumer
        self._limit = limit
        self._buffer: deque[Msg] = deque()
        self._receive = receive or self._keep
        self._asked = 0
        self._arrived = asyncio.Event()
        self._round = 0
        self._inbox = client.new_inbox()
        self._last_heard = 0.0
        self._loop = asyncio.get_running_loop()
        self._subscription: Subscription | None = None
        self.gone = asyncio.Event()
        """Set when the server says that the consumer does not exist (any more), or we have abandoned it."""

    @property
    def limit(self) -> int:
        """The most messages to have asked for and not handed out."""
        return self._limit

    @property
    def asked(self) -> int:
        """Returns how many messages the server can still send for open requests."""
        return self._asked

    @property
    def unread(self) -> int:
        """How many messages have come and were not handed out."""
        return len(self._buffer)

    def resize(self, limit: int) -> None:
        """Ask for up to `limit` messages from now on; zero asks for none, though asked ones may still come."""
        self._limit = limit
        self._ask()

    async def withdraw(self) -> None:
        """Take back what was asked for: the server sends nothing more until the next `resize`."""
        self._limit = 0
        if self._subscription is None or not self._asked:
            return
        await leave(self._subscription, self._receive)  # the server drops a pull that nobody listens for
        await self._listen()

    async def run(self) -> None:
        """Keep a pull open until cancelled."""
        await self._listen()
        while not self.ready.is_set():
            with suppress(nats.errors.Error, OSError):  # the server went away just now; it will know us when it is back
                await settled(self._client)
                self._last_heard = self._loop.time()
                self._ask()
                self.ready.set()
        try:
            while True:
                await asyncio.sleep(self.heartbeat)
                if self._asked and self._loop.time() - self._last_heard > 2.5 * self.heartbeat:
                    self.renew()
                self._ask()
        finally:
            if self._subscription is not None:
                await unsubscribe(self._subscription)

    async def _listen(self) -> None:
        self._inbox = self._client.new_inbox()
        self._asked = 0
        self._subscription = await subscribe(self._client, f"{self._inbox}.*", self._received)

    def renew(self) -> None:
        """Forget the pulls that are open (after a reconnect): the server may have forgotten them too."""
        self._round += 1
        self._asked = 0
        self._last_heard = self._loop.time()
        self._ask()

    def abandon(self) -> None:
        """Read no more: as if the consumer were gone."""
        self.gone.set()
        self._arrived.set()

    async def batch(self) -> list[Msg]:
        """Returns all messages since the last call; waits for at least one, or until the consumer is gone."""
        while not self._buffer and not self.gone.is_set():
            self._arrived.clear()
            await self._arrived.wait()
        taken = list(self._buffer)
        self._buffer.clear()
        self._unread_size = 0
        self._ask()
        return taken

    async def one(self) -> Msg:
        """The next message."""
        while not self._buffer:
            self._arrived.clear()
            await self._arrived.wait()
        taken = self._buffer.popleft()
        self._unread_size -= _size_of(taken) if self._size else 0
        self._ask()
        return taken

    def _ask(self) -> None:
        room = self._limit - self._asked - len(self._buffer)
        if room <= 0 or (self._asked and room < self._limit // 2) or not self._client.is_connected:
            return
        most = b""
        if self._size:
            if self._asked or self._unread_size > self._size // 2:
                return
            self._asked_size = self._size - self._unread_size
            most = b',"max_bytes":%d' % self._asked_size
        self._asked += room
        request = b'{"batch":%d,"expires":%d,"idle_heartbeat":%d%s}' % (
            room,
            int(self.expires * 1e9),
            int(self.heartbeat * 1e9),
            most,
        )
        post(self._client, self._api, request, f"{self._inbox}.{self._round}")

    def _keep(self, message: Msg) -> None:
        self._buffer.append(message)
        self._arrived.set()

    def _received(self, message: Msg) -> None:
        self._last_heard = self._loop.time()
        if message.headers and (status := message.headers.get("Status")):
            if message.subject == f"{self._inbox}.{self._round}":
                self._status(status, message.headers)
            return
        # A delivered message keeps its own subject; a late one of an older round looks the same, and is as good.
        self._asked = max(0, self._asked - 1)
        if self._size:
            self._account(_size_of(message))
        self._receive(message)
        self._ask()

    def _account(self, size: int) -> None:
        self._unread_size += size
        self._asked_size -= size
        if self._asked_size <= 0:  # the one case in which the server ends a request without a word
            self._asked = 0

    def _status(self, status: str, headers: dict[str, Any]) -> None:
        if status == "100":
            return
        if status in {"503", "404"} or (status == "409" and "Deleted" in headers.get("Description", "")):
            self._round += 1  # the heartbeat sends a new request if the consumer is back
            self._asked = 0
            self.abandon()
            return
        left = headers.get("Nats-Pending-Messages")
        self._asked = max(0, self._asked - int(left)) if left is not None else 0
        self._ask()


def _size_of(message: Msg) -> int:
    """Returns the bytes that the server counts for a message of a pull request with `max_bytes`."""
    size = len(message.subject) + len(message.reply) + len(message.data)
    if message.headers:
        size += 12 + sum(len(name) + len(value) + 4 for name, value in message.headers.items())
    return size


async def acknowledge(message: Msg) -> None:
    """Acknowledges a message.  The server does not confirm it; the message can be redelivered.

    Raises:
        UnavailableError: there is no connection.
    """
    post(message._client, message.reply, b"+ACK")  # noqa: SLF001 - Msg.ack() checks more than it needs to


def stamp(message: Msg) -> tuple[int, int]:
    """The stream sequence and the storing time (nanoseconds since 1970, UTC) of a delivered message.

    The reply subject is `$JS.ACK.` and seven tokens, or nine and more with a domain and an account
    before them (ADR-15).
    """
    reply = message.reply
    if reply.count(".") == 8:  # noqa: PLR2004 - ADR-15's short form
        _, seq, _, time, _ = reply.rsplit(".", 4)
        return int(seq), int(time)
    parts = reply.split(".")
    return int(parts[7]), int(parts[9])


def sequence(message: Msg) -> int:
    """Returns the stream sequence of a delivered message."""
    return stamp(message)[0]


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def moment(nanoseconds: int) -> datetime:
    """Converts a JetStream time, to the microsecond."""
    return _EPOCH + timedelta(0, 0, nanoseconds // 1000)


def pending(message: Msg) -> int:
    """Returns how many messages its consumer must still deliver after this one."""
    return _number(message, 8)


def deliveries(message: Msg) -> int:
    """Returns how many times it was delivered."""
    return _number(message, 4)


def place(message: Msg) -> int:
    """Returns the ordinal of the message among the deliveries of its consumer, from 1."""
    return _number(message, 6)


def _number(message: Msg, token: int) -> int:
    """A number of the reply subject, counted as in ADR-15's short form of nine tokens."""
    parts = message.reply.split(".")
    return int(parts[token if len(parts) == 9 else token + 2])  # noqa: PLR2004 - see above
