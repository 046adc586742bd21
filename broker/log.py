"""The log from this broker's side: append a record and learn what it did; follow every record in order.

A write is one append.  Its answer is what this broker's own state machine decided when the record
came back in the log's total order, so all brokers agree and nothing is half applied.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any, Final

import msgspec
import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, RawStreamMsg
from nats.js.errors import NotFoundError

from muster.broker.log_check import check_next
from muster.broker.state.changes import Changes
from muster.mesh import names, records
from muster.mesh.errors import TooLargeError, UnavailableError
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
from muster.mesh.service import Service
from muster.mesh.wire import flush

log = structlog.get_logger()

APPEND_TIMEOUT: Final = 10.0
"""Seconds after which an append that is not on the log fails; a cluster can need six for a new leader."""

SWEEP: Final = 0.5
"""Seconds between two checks for overdue appends."""

HEADERS: Final = 1024
"""Bytes of a message that a record leaves for its headers."""

MOST_AT_ONCE: Final = 1000
"""Records in one atomic batch: nats-server takes no more (ADR-50)."""

WINDOW: Final = 4000
"""Log messages that are requested and not yet applied."""

WINDOW_SIZE: Final = 8 * 2**20
"""Bytes of them, or two messages if that is more."""


class _Appender(msgspec.Struct, eq=False):
    """A caller that waits until its record appears on the log."""

    record: records.Record
    place: tuple[str, bytes]
    outcome: asyncio.Future[Changes]
    deadline: float


class Log(Service):
    """Appends records, and reports their outcomes to the callers.

    A record that appears on the log is stored; an acknowledgement is requested only to learn of a refusal.  Therefore
    the appends of one loop iteration share the acknowledgement of the last one, because JetStream refuses all of them
    for the same reason (no space, no leader).
    """

    def __init__(self, client: Client, publisher: Publisher) -> None:
        super().__init__()
        self._client = client
        self.publisher = publisher
        self._waiting: dict[tuple[str, bytes], list[_Appender]] = {}
        self._turn: list[_Appender] = []
        self._loop = asyncio.get_running_loop()

    async def run(self) -> None:
        """Give up appends that were not seen in time: one timer for all."""
        self.ready.set()
        while True:
            await asyncio.sleep(SWEEP)
            now = self._loop.time()
            overdue = [it for row in self._waiting.values() for it in row if it.deadline < now]
            if overdue:
                self._fail(overdue, _not_seen())

    def append(
        self, record: records.Record, *, expect: int | None = None, key: str | None = None
    ) -> asyncio.Future[Changes]:
        """Write a record, now; the future is what the own state machine made of it.

        Args:
            record: what happened.
            expect: the last sequence on the order's subjects that this is based on; 0 for a new order.
            key: a message id: within two minutes JetStream stores only one message of a key.

        Raises:
            TooLargeError: the record is larger than a message may be.

        The future raises:
            LostRaceError: `expect` is not the last sequence any more.
            UnavailableError: it was not seen in the log in time, or JetStream refused it (a full disk).
        """
        is_alone = not self._waiting
        appender = self._expected(record, self._placed(record))
        if expect is None and key is None and not is_alone:
            if not self._turn:
                self._loop.call_soon(self._send_turn)
            self._turn.append(appender)
            return appender.outcome
        headers: dict[str, str] = {}
        if expect is not None:
            headers = compare_and_set(names.log_of(record.kind, record.about), expect)
        if key is not None:
            headers[MSG_ID] = key
        self._send([appender], [headers])
        return appender.outcome

    async def append_all(self, many: Sequence[records.Record], *, expect: int | None = None) -> list[Changes]:
        """Write up to `MOST_AT_ONCE` records about different things: all or none (JetStream's atomic batch, ADR-50).

        Raises:
            LostRaceError: one of them is there already.
            TooLargeError: one of them is larger than a message may be.
            UnavailableError: they were not seen in the log in time, or JetStream refused them.
        """
        batch = names.new_id()
        all_headers = []
        for place, record in enumerate(many, start=1):
            headers = {BATCH_ID: batch, BATCH_SEQUENCE: str(place)}
            if expect is not None:
                headers |= compare_and_set(names.log_of(record.kind, record.about), expect)
            all_headers.append(headers)
        all_headers[-1][BATCH_COMMIT] = "1"
        places = [self._placed(record) for record in many]
        appenders = [self._expected(record, place) for record, place in zip(many, places, strict=True)]
        self._send(appenders, all_headers)
        return [await appender.outcome for appender in appenders]

    def _send_turn(self) -> None:
        turn, self._turn = self._turn, []
        self._send(turn, [None] * len(turn))

    def _send(self, appenders: Sequence[_Appender], headers: Sequence[dict[str, str] | None]) -> None:
        try:
            for appender, its_headers in zip(appenders[:-1], headers, strict=False):
                post(self._client, *appender.place, headers=its_headers)
            acknowledged = self.publisher.send(*appenders[-1].place, headers[-1], within=APPEND_TIMEOUT)
        except UnavailableError as error:
            self._fail(appenders, error)
            return
        acknowledged.add_done_callback(lambda ack: self._acknowledged(appenders, ack))
        if len(self._waiting) == 1:
            flush(self._client)  # somebody waits for this one alone, and nothing comes that could go with it

    def _acknowledged(self, appenders: Sequence[_Appender], ack: asyncio.Future[PubAck]) -> None:
        """A refused append will not be seen in the log; a duplicate was seen before."""
        if ack.cancelled():
            return
        error = ack.exception()
        if error is None and ack.result().duplicate:
            error = LostRaceError("there is a record of this message id already")
        if error is not None:
            self._fail(appenders, error)

    def _fail(self, appenders: Sequence[_Appender], error: BaseException) -> None:
        for appender in appenders:
            row = self._waiting.get(appender.place, [])
            if appender in row:
                row.remove(appender)
                if not row:
                    del self._waiting[appender.place]
            if not appender.outcome.done():
                appender.outcome.set_exception(error)
                appender.outcome.exception()  # marks the error as retrieved

    def takes(self, record: records.Record) -> bool:
        """Returns whether a record is small enough."""
        return len(records.encode(record)) <= self._client.max_payload - HEADERS

    def _placed(self, record: records.Record) -> tuple[str, bytes]:
        data = records.encode(record)
        if len(data) > self._client.max_payload - HEADERS:
            raise TooLargeError(f"a record of {len(data)} bytes is more than the log takes")
        return records.subject(record), data

    def _expected(self, record: records.Record, place: tuple[str, bytes]) -> _Appender:
        appender = _Appender(record, place, self._loop.create_future(), self._loop.time() + APPEND_TIMEOUT)
        row = self._waiting.get(place)
        if row is None:
            self._waiting[place] = [appender]
        else:
            row.append(appender)
        return appender

    def applied(self, subject: str, data: bytes, changes: Changes) -> None:
        """Reports the changes of a record to the first caller that appended it."""
        row = self._waiting.pop((subject, data), None)
        if row is None:
            return
        outcome = row.pop(0).outcome
        if row:
            self._waiting[subject, data] = row
        if not outcome.done():
            outcome.set_result(changes)

    @property
    def has_appenders(self) -> bool:
        """Returns whether a caller waits for an outcome."""
        return bool(self._waiting)

    async def last_of(self, order: str) -> int:
        """Returns the last sequence on the subjects of an order; 0 if there is none."""
        try:
            found = await self._client.jetstream().get_last_msg(names.LOG_STREAM, names.log_of("order", order))
        except NotFoundError:
            return 0
        return int(found.seq or 0)

    async def records_of(self, kind: str, ident: str) -> list[dict[str, Any]]:
        """Returns every message on the subjects of an object, oldest first, with its author and time."""
        js, subject = self._client.jetstream(), names.log_of(kind, ident)
        entries: list[dict[str, Any]] = []
        seq = 1
        while True:
            try:
                found = await js.get_msg(names.LOG_STREAM, seq, subject=subject, direct=True, next=True)
            except NotFoundError:
                return entries
            seq = int(found.seq or 0) + 1
            entries.append(_entry(found))


def _entry(found: RawStreamMsg) -> dict[str, Any]:
    subject, data = str(found.subject), found.data or b""
    record, place = records.decode(subject, data)
    time = found.headers.get("Nats-Time-Stamp") if found.headers else None
    said = {"error": record} if isinstance(record, str) else msgspec.json.decode(data)
    caller = None if isinstance(record, str) or place is None else records.caller_of(record, place.actor)
    if "by" in said:
        said["by"] = str(caller)
    return {
        "seq": found.seq,
        "time": found.time or time,
        "type": "unknown" if isinstance(record, str) else str(type(record).__struct_config__.tag),
        "actor": place.actor if place else "",
        "caller": msgspec.to_builtins(caller) if caller is not None else {},
        "data": said,
    }


def _not_seen() -> UnavailableError:
    return UnavailableError(
        f"the log did not take a record in {APPEND_TIMEOUT:g} s; it can still arrive: check before you retry"
    )


class Follower:
    """Every message of the log behind `last`, in order, none twice and none left out, in batches.

    The consumer is ours alone and lives in the server's memory.  Whenever it is gone, or a message
    seems to be missing, a new one starts behind the last message handed out.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._puller: Puller | None = None

    def renew(self) -> None:
        """Starts a new consumer after a reconnect, because the last messages of the old one can be lost."""
        if self._puller is not None:
            self._puller.abandon()

    async def batches(self, last: int) -> AsyncGenerator[list[Msg], None]:
        """Yields the messages after `last`, and all later ones.

        Raises:
            UnavailableError: the log does not have the record that comes next.
        """
        while True:
            try:
                await check_next(self._client, last)
                consumer = await self._consumer(last + 1)
                async with Puller(self._client, names.LOG_STREAM, consumer, limit=WINDOW, size=WINDOW_SIZE) as puller:
                    self._puller = puller
                    async for batch in _unbroken(puller, last):
                        last = stamp(batch[-1])[0]
                        yield batch
            except (nats.errors.Error, OSError) as error:
                log.warning("log.waits", error=repr(error))
                await asyncio.sleep(0.5)
            finally:
                self._puller = None

    async def _consumer(self, start: int) -> str:
        config = ConsumerConfig(
            ack_policy=AckPolicy.NONE,
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=start,
            mem_storage=True,
            num_replicas=1,
            inactive_threshold=60,
        )
        return str((await self._client.jetstream().add_consumer(names.LOG_STREAM, config)).name)


async def _unbroken(puller: Puller, last: int) -> AsyncIterator[list[Msg]]:
    """Batches, as long as the consumer is there and nothing is missing between them."""
    while not puller.gone.is_set():
        batch = await puller.batch()
        if batch and stamp(batch[0])[0] <= last:
            batch = [message for message in batch if stamp(message)[0] > last]
        if not batch:
            continue
        first = stamp(batch[0])[0]
        if first != last + 1:
            return
        whole = _start_without_a_gap(batch)
        last = first + len(whole) - 1
        yield whole
        if len(whole) < len(batch):
            return


def _start_without_a_gap(batch: list[Msg]) -> list[Msg]:
    """The messages up to the first one that does not follow its predecessor."""
    first = stamp(batch[0])[0]
    if stamp(batch[-1])[0] == first + len(batch) - 1:
        return batch
    return [message for place, message in enumerate(batch) if stamp(message)[0] == first + place]
