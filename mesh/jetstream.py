"""The three JetStream verbs of the hot path, kept short: publish and wait, pull without end, acknowledge.

nats-py's own `publish` and `fetch` cost several tasks and timers a message; these cost a dictionary
entry.  Everything else (streams, buckets, consumers) goes through nats-py.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from muster.mesh.errors import UnavailableError
from muster.mesh.service import Service

MSG_ID: Final = "Nats-Msg-Id"
EXPECTED_SEQUENCE: Final = "Nats-Expected-Last-Subject-Sequence"
EXPECTED_SUBJECT: Final = "Nats-Expected-Last-Subject-Sequence-Subject"

WRONG_LAST_SEQUENCE: Final = frozenset({10071, 10164})
"""JetStream's err_code when a compare-and-set lost (10164: several subjects matched the filter)."""

ACK_TIMEOUT: Final = 5.0
"""Seconds to wait for an acknowledgement; a cluster that lost its leader needs about six to have one again."""


class _ApiError(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class PubAck(msgspec.Struct):
    """JetStream's answer to a publish."""

    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    error: _ApiError | None = None


class LostRaceError(Exception):
    """A compare-and-set found another last sequence: somebody was faster."""


_ack = msgspec.json.Decoder(PubAck)


def compare_and_set(subject: str, sequence: int) -> dict[str, str]:
    """Headers that let a publish pass only if `sequence` is the last one on `subject` (a filter)."""
    return {EXPECTED_SEQUENCE: str(sequence), EXPECTED_SUBJECT: subject}


class Publisher(Service):
    """Publishes to JetStream and waits for the acknowledgement, any number at a time."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self._client = client
        self._inbox = client.new_inbox()
        self._waiting: dict[str, asyncio.Future[PubAck]] = {}
        self._count = 0

    async def run(self) -> None:
        """Listen for acknowledgements until cancelled."""
        subscription = await self._client.subscribe(f"{self._inbox}.*", cb=self._acknowledged)
        await self._client.flush()
        await self._client.flush()
        self.ready.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await _unsubscribe(subscription)

    async def _acknowledged(self, message: Msg) -> None:
        waiting = self._waiting.pop(message.subject, None)
        if waiting is None or waiting.done():
            return
        if not message.data:
            waiting.set_exception(
                UnavailableError("no stream takes this subject; is the mesh set up, and JetStream on?")
            )
            return
        waiting.set_result(_ack.decode(message.data))

    async def send(self, subject: str, data: bytes, headers: Mapping[str, str] | None = None) -> asyncio.Future[PubAck]:
        """Publish now; the future has the acknowledgement, or never ends if the server went away.

        Raises:
            UnavailableError: there is no connection, or the message is too large for the server.
        """
        self._count += 1
        reply = f"{self._inbox}.{self._count}"
        waiting: asyncio.Future[PubAck] = asyncio.get_running_loop().create_future()
        self._waiting[reply] = waiting
        try:
            await self._client.publish(subject, data, reply, dict(headers) if headers else None)
        except nats.errors.Error as error:
            del self._waiting[reply]
            raise UnavailableError(f"NATS did not take a message on {subject}: {error}") from error
        waiting.add_done_callback(lambda _: self._waiting.pop(reply, None))
        return waiting

    async def publish(
        self, subject: str, data: bytes, headers: Mapping[str, str] | None = None, *, patience: float = ACK_TIMEOUT
    ) -> PubAck:
        """Publish and wait until it is stored.

        Raises:
            LostRaceError: the compare-and-set in `headers` failed.
            UnavailableError: no acknowledgement came in time; it may or may not be stored, so
                try again with the same message id.
        """
        waiting = await self.send(subject, data, headers)
        try:
            async with asyncio.timeout(patience):
                ack = await waiting
        except TimeoutError:
            raise UnavailableError(f"JetStream did not acknowledge a message on {subject} in {patience:g} s") from None
        return checked(ack, subject)


def checked(ack: PubAck, subject: str) -> PubAck:
    """The acknowledgement, or the error it tells of.

    Raises:
        LostRaceError: a compare-and-set failed.
        UnavailableError: JetStream refused for another reason (a full disk, a limit).
    """
    if ack.error is None:
        return ack
    if ack.error.err_code in WRONG_LAST_SEQUENCE:
        raise LostRaceError(ack.error.description)
    raise UnavailableError(f"JetStream refused a message on {subject}: {ack.error.description}")


class Puller(Service):
    """Pulls from one consumer without end, and hands out what came as batches.

    The server never sends more than was asked for: at most `limit` messages are unread here at any
    time, so memory is bounded and a slow reader slows the stream, not the process.  A pull that
    expired, a reconnect, or silence for longer than the heartbeat all lead to the next pull.
    """

    heartbeat = 5.0
    """Seconds; the server says it is alive at this interval while it has nothing to send."""
    expires = 60.0
    """Seconds until an idle pull is renewed."""

    def __init__(self, client: Client, stream: str, consumer: str, *, limit: int) -> None:
        super().__init__()
        self._client = client
        self._api = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self.stream, self.consumer = stream, consumer
        self._limit = limit
        self._buffer: deque[Msg] = deque()
        self._asked = 0
        self._arrived = asyncio.Event()
        self._round = 0
        self._inbox = client.new_inbox()
        self._last_heard = 0.0
        self.gone = asyncio.Event()
        """Set when the server says that the consumer does not exist (any more)."""

    @property
    def limit(self) -> int:
        """The most messages to have asked for and not handed out."""
        return self._limit

    async def resize(self, limit: int) -> None:
        """Ask for up to `limit` messages from now on; zero pauses."""
        self._limit = limit
        await self._ask()

    async def run(self) -> None:
        """Keep a pull open until cancelled."""
        loop = asyncio.get_running_loop()
        subscription = await self._client.subscribe(f"{self._inbox}.*", cb=self._received)
        await self._client.flush()
        await self._client.flush()
        self._last_heard = loop.time()
        await self._ask()
        self.ready.set()
        try:
            while True:
                await asyncio.sleep(self.heartbeat)
                if self._asked and loop.time() - self._last_heard > 2.5 * self.heartbeat:
                    self.renew()
                await self._ask()
        finally:
            await _unsubscribe(subscription)

    def renew(self) -> None:
        """Forget the pulls that are open (after a reconnect): the server may have forgotten them too."""
        self._round += 1
        self._asked = 0

    async def batch(self) -> list[Msg]:
        """Whatever has come since the last call; waits for at least one message."""
        while not self._buffer:
            self._arrived.clear()
            await self._arrived.wait()
        taken = list(self._buffer)
        self._buffer.clear()
        await self._ask()
        return taken

    async def one(self) -> Msg:
        """The next message."""
        while not self._buffer:
            self._arrived.clear()
            await self._arrived.wait()
        taken = self._buffer.popleft()
        await self._ask()
        return taken

    async def _ask(self) -> None:
        room = self._limit - self._asked - len(self._buffer)
        if room <= 0 or (self._asked and room < self._limit // 2) or not self._client.is_connected:
            return
        self._asked += room
        request = {"batch": room, "expires": int(self.expires * 1e9), "idle_heartbeat": int(self.heartbeat * 1e9)}
        try:
            await self._client.publish(self._api, msgspec.json.encode(request), f"{self._inbox}.{self._round}")
        except nats.errors.Error:
            self._asked -= room

    async def _received(self, message: Msg) -> None:
        self._last_heard = asyncio.get_running_loop().time()
        current = message.subject.rpartition(".")[2] == str(self._round) or not message.subject.startswith(self._inbox)
        if message.headers and (status := message.headers.get("Status")):
            if current:
                await self._told(status, message.headers)
            return
        # A delivered message keeps its own subject, so a late one of an older round cannot be told; it is as good.
        self._asked = max(0, self._asked - 1)
        self._buffer.append(message)
        self._arrived.set()

    async def _told(self, status: str, headers: dict[str, Any]) -> None:
        if status == "100":
            return
        if status in {"503", "404"} or (status == "409" and "Deleted" in headers.get("Description", "")):
            self.renew()
            self.gone.set()
            return
        left = headers.get("Nats-Pending-Messages")
        self._asked = max(0, self._asked - int(left)) if left is not None else 0
        await self._ask()


async def acknowledge(message: Msg) -> None:
    """Tell JetStream that the message is dealt with.  Not awaited by the server: it may come again."""
    await message._client.publish(message.reply, b"+ACK")  # noqa: SLF001 - Msg.ack() checks more than it needs to


def stamp(message: Msg) -> tuple[int, int]:
    """The stream sequence and the storing time (nanoseconds since 1970, UTC) of a delivered message.

    The reply subject is `$JS.ACK.` and seven tokens, or nine and more with a domain and an account
    before them (ADR-15).
    """
    parts = message.reply.split(".")
    first = 2 if len(parts) == 9 else 4  # noqa: PLR2004 - ADR-15's short form
    return int(parts[first + 3]), int(parts[first + 5])


def sequence(message: Msg) -> int:
    """The stream sequence of a delivered message."""
    return stamp(message)[0]


async def _unsubscribe(subscription: Subscription) -> None:
    try:
        await subscription.unsubscribe()
    except nats.errors.Error:
        return
