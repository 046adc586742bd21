"""Reads what tasks print from the output stream: in order, without doubles, with bounded memory.

Each reader has an ephemeral consumer of its own, in the server's memory; should the server restart,
the reader makes another one behind the last message it has seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo, DeliverPolicy
from nats.js.errors import NotFoundError as NoConsumerError

from muster.broker.finals import Finals
from muster.broker.query import Query
from muster.mesh import jetstream, names
from muster.mesh.errors import UnavailableError
from muster.mesh.jetstream import Puller
from muster.mesh.model import Order

CLAIM_HEADER = "Muster-Claim"
ATTEMPT_HEADER = "Muster-Attempt"
OFFSET_HEADER = "Muster-Offset"

AHEAD = 32
"""Messages that a reader prefetches."""

AHEAD_SIZE = 4 * 2**20
"""Bytes of them, or two messages if that is more: an agent's chunks have at most 128 KB each."""

IDLE = 30.0
"""Seconds until the server forgets a consumer that nobody pulls from."""

STREAM_TIMEOUT = 20.0
"""Seconds to wait for the output stream; it is unreachable while its server restarts or a cluster elects a leader."""

AGAIN = 0.5
"""Seconds between two tries."""

SILENCE = 1.0
"""Seconds without a message after which a reader that should be through asks what is left."""


Try = tuple[int, int]
"""The attempt at the order, and within it the try of the task."""


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of one job's output."""

    job: str
    claim: int
    """Which attempt at the order it is of."""
    attempt: int
    """Which try of the task."""
    offset: int
    """Where in this attempt's output the piece starts, in bytes."""
    data: bytes

    def follows(self, after: Chunk) -> bool:
        """Whether `after` continues this piece of output."""
        here = self.job, self.claim, self.attempt, self.offset + len(self.data)
        return here == (after.job, after.claim, after.attempt, after.offset)


class Output:
    """The output stream, for readers."""

    def __init__(self, client: Client, finals: Finals, query: Query) -> None:
        self._client, self._finals, self._query = client, finals, query
        self._pullers: set[Puller] = set()

    def renew(self) -> None:
        """The connection is back: the server may have forgotten what was asked of it."""
        for puller in self._pullers:
            puller.renew()

    async def read(self, order: str, *, job: str | None = None, follow: bool = False) -> AsyncGenerator[Chunk, None]:
        """All chunks so far; with `follow`, also those to come until the order is final.

        Raises:
            UnavailableError: NATS is unreachable for longer than a request may take.
        """
        subject = names.output_of_job(order, job) if job else names.output_of(order)
        ended = asyncio.ensure_future(self._finals.final(order)) if follow else None
        seen: dict[str, tuple[Try, int]] = {}
        writers = _Writers(self._query, order)
        last = 0
        try:
            while True:
                async with _tail(self._client, subject, last, self._pullers) as tail:
                    async for message in tail.messages(ended):
                        last = jetstream.sequence(message)
                        if await writers.wrote(message) and (chunk := _fresh(message, seen)) is not None:
                            yield chunk
                    if tail.through:
                        return
        finally:
            if ended is not None:
                ended.cancel()


class _Writers:
    """Distinguishes an order's output from what others wrote: only who claimed an attempt prints for it.

    The subject says who wrote, for NATS permissions hold an agent to its own; the log says who had claimed.
    """

    def __init__(self, query: Query, order: str) -> None:
        self._query, self._order = query, order
        self._known: dict[int, str] = {}

    async def wrote(self, message: Msg) -> bool:
        """Whether it is of the attempt that it says."""
        element, _ = names.output_parts(message.subject)
        try:
            claim = int((message.headers or {}).get(CLAIM_HEADER, "0"))
        except ValueError:
            return False
        if claim not in self._known and (runner := await self._query.runner_of(self._order, claim)) is not None:
            self._known[claim] = runner
        return self._known.get(claim) == element


def _fresh(message: Msg, seen: dict[str, tuple[Try, int]]) -> Chunk | None:
    """The part of a chunk that is new; an agent that got no answer sends a chunk twice."""
    headers = message.headers or {}
    _, job = names.output_parts(message.subject)
    try:
        this = int(headers.get(CLAIM_HEADER, "0")), int(headers.get(ATTEMPT_HEADER, "1"))
        offset = int(headers.get(OFFSET_HEADER, "-1"))
    except ValueError:
        return None
    known, end = seen.get(job, (this, 0))
    if this < known:
        return None
    if this > known:
        end = 0
    offset = end if offset < 0 else offset
    data = message.data[max(0, end - offset) :]
    if not data:
        return None
    start = max(offset, end)
    seen[job] = (this, start + len(data))
    return Chunk(job=job, claim=this[0], attempt=this[1], offset=start, data=data)


class _Tail:
    """One consumer's life: what it has delivered, and how much there is."""

    def __init__(self, client: Client, puller: Puller, pending: int) -> None:
        self._client, self._puller = client, puller
        self._pending = pending
        self._delivered = 0
        self.through = False

    async def messages(self, ended: asyncio.Future[Order] | None) -> AsyncIterator[Msg]:
        """Messages until all are read (and, if given, `ended` is); stops early if the consumer is lost."""
        target = None if ended is not None else self._pending
        reading = asyncio.ensure_future(self._puller.batch())
        try:
            while target is None or self._delivered < target:
                if target is None:
                    await _first(reading, ended)
                else:
                    await asyncio.wait({reading}, timeout=SILENCE)
                if reading.done():
                    batch = reading.result()
                    for message in batch:
                        if not self._in_order(message):
                            return
                        yield message
                    if not batch:
                        return  # the consumer is gone
                    reading = asyncio.ensure_future(self._puller.batch())
                elif (target := await self._left()) is None:
                    return
            self.through = True
        finally:
            reading.cancel()

    def _in_order(self, message: Msg) -> bool:
        """Whether no message is missing before this one (the consumer's own count has no gap)."""
        number = message.metadata.sequence.consumer
        expected = self._delivered + 1
        self._delivered = max(number, self._delivered)
        return number == expected

    async def _left(self) -> int | None:
        """Up to which count the consumer will deliver what is stored now; None if it is lost."""
        try:
            info = await self._client.jetstream().consumer_info(self._puller.stream, self._puller.consumer)
        except NoConsumerError:
            return None
        except (nats.errors.Error, TimeoutError) as error:
            raise UnavailableError(f"the output stream does not answer: {error}") from error
        delivered = info.delivered.consumer_seq if info.delivered else 0
        return (delivered or 0) + (info.num_pending or 0)


async def _first(reading: asyncio.Future[list[Msg]], ended: asyncio.Future[Order] | None) -> None:
    """Wait until something came, or the order has ended."""
    waits: set[asyncio.Future[Any]] = {reading} if ended is None else {reading, ended}
    if ended is None or not ended.done():
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    if ended is not None and ended.done():
        ended.result()


@asynccontextmanager
async def _tail(client: Client, subject: str, after: int, pullers: set[Puller]) -> AsyncIterator[_Tail]:
    js = client.jetstream()
    config = ConsumerConfig(
        filter_subject=subject,
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE if after else DeliverPolicy.ALL,
        opt_start_seq=after + 1 if after else None,
        ack_policy=AckPolicy.NONE,
        inactive_threshold=IDLE,
        mem_storage=True,
        num_replicas=1,
    )
    info = await _consumer(js, config)
    try:
        async with Puller(client, names.OUTPUT_STREAM, info.name, limit=AHEAD, size=AHEAD_SIZE) as puller:
            pullers.add(puller)
            try:
                yield _Tail(client, puller, info.num_pending or 0)
            finally:
                pullers.discard(puller)
    finally:
        await _drop(client, info.name)


async def _consumer(js: JetStreamContext, config: ConsumerConfig) -> ConsumerInfo:
    """A new consumer; a server that restarts gets some time, so that followers outlive it."""
    end = asyncio.get_running_loop().time() + STREAM_TIMEOUT
    while True:
        try:
            return await js.add_consumer(names.OUTPUT_STREAM, config)
        except (nats.errors.Error, TimeoutError) as error:
            if asyncio.get_running_loop().time() > end:
                raise UnavailableError(f"the output stream does not answer: {error}") from error
            await asyncio.sleep(AGAIN)


async def _drop(client: Client, consumer: str) -> None:
    try:
        async with asyncio.timeout(2):
            await client.jetstream().delete_consumer(names.OUTPUT_STREAM, consumer)
    except (nats.errors.Error, TimeoutError):
        return  # the server forgets it by itself after IDLE seconds
