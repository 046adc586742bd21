"""Reads a bucket: all its values first, then every change, in the order in which they were written.

A bucket is a stream (ADR-8).  A reader is a consumer of it that starts with the last message of each name.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Final

import msgspec
import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import Error as JetStreamError

from muster.mesh import names
from muster.mesh.errors import UnavailableError
from muster.mesh.jetstream import Puller, moment, pending, place, stamp

log = structlog.get_logger()

OPERATION: Final = "KV-Operation"
"""The header that names the operation, if it is not a put (ADR-8)."""

REMOVED: Final[Mapping[str, str]] = {OPERATION: "DEL"}
"""The headers of a message that removes a name."""

AT_ONCE: Final = 1024
AT_ONCE_SIZE: Final = 8 * 2**20
"""Entries that may be on their way to us."""

SILENCE: Final = 2.0
"""Seconds without an entry before the server is asked whether it has more."""

FORGOTTEN: Final = 60.0
"""Seconds before the server drops the consumer of a reader that is gone."""

TIMEOUT: Final = 5.0
"""Seconds for the server to answer."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A name and its value in a bucket."""

    name: str
    value: bytes | None
    """None if it was removed."""
    written_at: datetime


class Reader:
    """A reader of a bucket; `reading` creates it."""

    def __init__(self, client: Client, puller: Puller, *, is_whole: bool) -> None:
        self.is_whole = is_whole
        """Whether every value that the bucket held was read; from now on there are only changes."""
        self._client = client
        self._puller = puller
        self._taken = 0
        """How many messages were received."""

    def renew(self) -> None:
        """Pulls again after a reconnect: the server may have forgotten the open pull."""
        self._puller.renew()

    async def batch(self) -> list[Entry]:
        """Returns the entries since the last call, in order; none if the server was asked whether it has more.

        Raises:
            UnavailableError: the server has dropped the consumer, or a message was lost; read the bucket again.
        """
        messages = await (self._puller.batch() if self.is_whole else self._unless_silent())
        self._taken += len(messages)
        if messages:
            self._miss_nothing(place(messages[-1]))
            self.is_whole = self.is_whole or pending(messages[-1]) == 0
        elif self._puller.gone.is_set():
            raise UnavailableError(f"the NATS server has dropped our consumer of {self._puller.stream}")
        elif not self.is_whole:
            await self._ask()
        return [_entry(message) for message in messages]

    async def _unless_silent(self) -> list[Msg]:
        try:
            async with asyncio.timeout(SILENCE):
                return await self._puller.batch()
        except TimeoutError:
            return []

    async def _ask(self) -> None:
        """Asks the server whether it has more: a message that it was about to send may have expired."""
        js = self._client.jetstream(timeout=TIMEOUT)
        info = await js.consumer_info(self._puller.stream, self._puller.consumer)
        log.debug("bucket.silence", stream=self._puller.stream, pending=info.num_pending)
        if info.num_pending or self._puller.unread:
            return
        self._miss_nothing(info.delivered.consumer_seq if info.delivered else 0)
        self.is_whole = True

    def _miss_nothing(self, sent: int) -> None:
        """Raises if a message was lost: entries are not acknowledged, so the server does not send them again."""
        if sent != self._taken:
            raise UnavailableError(f"{sent - self._taken} of {sent} messages of {self._puller.stream} were lost")


@asynccontextmanager
async def reading(client: Client, bucket: str) -> AsyncIterator[Reader]:
    """Reads a bucket from its start; the consumer is removed at the end.

    Raises:
        JetStreamError: there is no such bucket.
        nats.errors.Error: the server does not answer; so do `TimeoutError` and `OSError`.
    """
    js, stream = client.jetstream(timeout=TIMEOUT), names.bucket_stream(bucket)
    config = ConsumerConfig(
        name=f"reader-{names.new_id()}",
        deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
        filter_subject=names.entries(bucket),
        ack_policy=AckPolicy.NONE,
        mem_storage=True,
        num_replicas=1,
        inactive_threshold=FORGOTTEN,
    )
    info = await js.add_consumer(stream, config)
    try:
        async with Puller(client, stream, info.name, limit=AT_ONCE, size=AT_ONCE_SIZE) as puller:
            yield Reader(client, puller, is_whole=not info.num_pending)
    finally:
        if client.is_connected:
            with suppress(nats.errors.Error, JetStreamError, TimeoutError, OSError):
                await js.delete_consumer(stream, info.name)


def _entry(message: Msg) -> Entry:
    return Entry(
        name=names.untoken(message.subject.split(".", 2)[2]),
        value=None if (message.headers or {}).get(OPERATION) in {"DEL", "PURGE"} else message.data,
        written_at=moment(stamp(message)[1]),
    )
