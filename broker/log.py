"""The log from this broker's side: append a record and learn what it did; follow every record in order.

A write is one append.  Its answer is what this broker's own state machine decided when the record
came back in the log's total order, so all brokers agree and nothing is half applied.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, RawStreamMsg
from nats.js.errors import Error as JetStreamError
from nats.js.errors import NotFoundError

from muster.broker.state.changes import Changes
from muster.mesh import names, records
from muster.mesh.errors import UnavailableError
from muster.mesh.jetstream import (
    BATCH_COMMIT,
    BATCH_ID,
    BATCH_SEQUENCE,
    MSG_ID,
    LostRaceError,
    PubAck,
    Publisher,
    Puller,
    compare_and_set,
    post,
    stamp,
)

log = structlog.get_logger()

PATIENCE: Final = 10.0
"""Seconds until an append that was not seen in the log is given up; a cluster may need six for a new leader."""

WINDOW: Final = 2000
"""Log messages asked for and not yet applied."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_Waiters = dict[tuple[str, bytes], deque[asyncio.Future[Changes]]]


def moment(nanoseconds: int) -> datetime:
    """A JetStream time, to the microsecond."""
    return _EPOCH + timedelta(microseconds=nanoseconds // 1000)


class Log:
    """Appends records, and tells appenders what came of them."""

    def __init__(self, client: Client, publisher: Publisher) -> None:
        self._client = client
        self._publisher = publisher
        self._waiting: _Waiters = {}

    async def append(self, record: records.Record, *, expect: int | None = None, key: str | None = None) -> Changes:
        """Write a record, and wait until the own state machine has applied it.

        Args:
            record: what happened.
            expect: the last sequence on the order's subjects that this is based on; 0 for a new order.
            key: a message id: within two minutes JetStream stores only one message of a key.

        Raises:
            LostRaceError: `expect` is not the last sequence any more.
            UnavailableError: it was not seen in the log in time, or JetStream refused it (a full disk).
        """
        subject, data = records.subject(record), records.encode(record)
        headers = (
            compare_and_set(names.log_of(record.kind, records.ident(record)), expect) if expect is not None else {}
        )
        if key is not None:
            headers[MSG_ID] = key
        waiting: asyncio.Future[Changes] = asyncio.get_running_loop().create_future()
        place = (subject, data)
        self._waiting.setdefault(place, deque()).append(waiting)
        try:
            acknowledged = self._publisher.send(subject, data, headers or None, patience=PATIENCE)
            acknowledged.add_done_callback(lambda ack: _fail(waiting, ack))
            async with asyncio.timeout(PATIENCE):
                return await waiting
        except TimeoutError:
            raise UnavailableError(
                f"the log did not take a record in {PATIENCE:g} s; it may still arrive: look before you try again"
            ) from None
        finally:
            self._forget(place, waiting)

    async def append_all(self, many: Sequence[records.Record], *, expect: int | None = None) -> list[Changes]:
        """Write records about different things: all of them or none (JetStream's atomic batch, ADR-50).

        Raises:
            LostRaceError: one of them is there already.
            UnavailableError: they were not seen in the log in time, or JetStream refused them.
        """
        batch = names.new_id()
        loop = asyncio.get_running_loop()
        waiting: list[tuple[tuple[str, bytes], asyncio.Future[Changes]]] = []
        try:
            async with asyncio.timeout(PATIENCE):
                for place, record in enumerate(many, start=1):
                    subject, data = records.subject(record), records.encode(record)
                    headers = {BATCH_ID: batch, BATCH_SEQUENCE: str(place)}
                    if expect is not None:
                        headers |= compare_and_set(names.log_of(record.kind, records.ident(record)), expect)
                    future: asyncio.Future[Changes] = loop.create_future()
                    self._waiting.setdefault((subject, data), deque()).append(future)
                    waiting.append(((subject, data), future))
                    if place == len(many):
                        headers[BATCH_COMMIT] = "1"
                        await self._publisher.publish(subject, data, headers, patience=PATIENCE)
                    else:
                        post(self._client, subject, data, headers=headers)
                return [await future for _, future in waiting]
        except TimeoutError:
            raise UnavailableError(
                f"the log did not take {len(many)} records in {PATIENCE:g} s; look before you try again"
            ) from None
        finally:
            for where, future in waiting:
                self._forget(where, future)

    async def last_of(self, order: str) -> int:
        """The last sequence on an order's subjects; 0 if it has none."""
        try:
            found = await self._client.jetstream().get_last_msg(names.LOG_STREAM, names.log_of("order", order))
        except NotFoundError:
            return 0
        return int(found.seq or 0)

    async def records_of(self, order: str) -> list[dict[str, Any]]:
        """Every message on an order's subjects, oldest first: what it was, who wrote it, and when."""
        js, subject = self._client.jetstream(), names.log_of("order", order)
        told: list[dict[str, Any]] = []
        seq = 1
        while True:
            try:
                found = await js.get_msg(names.LOG_STREAM, seq, subject=subject, direct=True, next=True)
            except NotFoundError:
                return told
            seq = int(found.seq or 0) + 1
            told.append(_told(found))

    def applied(self, subject: str, data: bytes, changes: Changes) -> None:
        """Tell whoever appended this record what it did."""
        waiting = self._waiting.get((subject, data))
        while waiting:
            appender = waiting.popleft()
            if not appender.done():
                appender.set_result(changes)
                return

    @property
    def has_appenders(self) -> bool:
        """Whether somebody waits for an answer."""
        return bool(self._waiting)

    def _forget(self, place: tuple[str, bytes], waiting: asyncio.Future[Changes]) -> None:
        row = self._waiting.get(place)
        if row is not None:
            if waiting in row:
                row.remove(waiting)
            if not row:
                del self._waiting[place]


def _told(found: RawStreamMsg) -> dict[str, Any]:
    subject, data = str(found.subject), found.data or b""
    record = records.decode(subject, data)
    parts = names.log_parts(subject)
    time = found.headers.get("Nats-Time-Stamp") if found.headers else None
    return {
        "seq": found.seq,
        "time": found.time or time,
        "type": "unknown" if isinstance(record, str) else str(type(record).__struct_config__.tag),
        "actor": parts[2] if parts else "",
        "data": {"error": record} if isinstance(record, str) else msgspec.json.decode(data),
    }


def _fail(waiting: asyncio.Future[Changes], ack: asyncio.Future[PubAck]) -> None:
    """A refused append will not be seen in the log; a duplicate was seen before."""
    if waiting.done() or ack.cancelled():
        return
    error = ack.exception()
    if error is None and ack.result().duplicate:
        error = LostRaceError("there is a record of this message id already")
    if error is not None:
        waiting.set_exception(error)


async def follow(client: Client, after: int) -> AsyncIterator[list[Msg]]:
    """Every message of the log from `after` on, in order, none twice and none left out, in batches.

    The consumer is ours alone and lives in the server's memory.  Whenever it is gone, or a message
    seems to be missing, a new one starts behind the last message handed out.
    """
    js = client.jetstream()
    last = after
    while True:
        try:
            info = await js.add_consumer(
                names.LOG_STREAM,
                ConsumerConfig(
                    ack_policy=AckPolicy.NONE,
                    deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
                    opt_start_seq=last + 1,
                    mem_storage=True,
                    num_replicas=1,
                    inactive_threshold=60,
                ),
            )
        except (JetStreamError, TimeoutError, OSError) as error:
            log.warning("log.waits", error=repr(error))
            await asyncio.sleep(0.5)
            continue
        fresh = True
        async with Puller(client, names.LOG_STREAM, info.name, limit=WINDOW) as puller:
            while not puller.gone.is_set():
                batch = [message for message in await _next(puller) if stamp(message)[0] > last]
                if not batch:
                    continue
                if not fresh and stamp(batch[0])[0] != last + 1:
                    break
                fresh = False
                last = stamp(batch[-1])[0]
                yield batch


async def _next(puller: Puller) -> list[Msg]:
    """The next batch; empty if the consumer is gone."""
    batch, gone = asyncio.ensure_future(puller.batch()), asyncio.ensure_future(puller.gone.wait())
    try:
        await asyncio.wait({batch, gone}, return_when=asyncio.FIRST_COMPLETED)
        return batch.result() if batch.done() else []
    finally:
        batch.cancel()
        gone.cancel()
