"""The streams, buckets and consumers of a mesh: made when missing, brought up to date when not."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

import msgspec
import structlog
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    KeyValueConfig,
    RePublish,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import APIError, BadRequestError, NotFoundError

from muster.mesh import disk, names, storing
from muster.mesh.errors import RefusedError, UnavailableError

log = structlog.get_logger()

_DAY = 24 * 3600.0

MANY_CONSUMERS = 1_000_000
"""nats-server 2.15 refuses the 1,001st consumer of a stream unless its config says a number (err_code 10026)."""

TOO_FEW_SERVERS = {10005, 10074}
"""JetStream's err_code for more replicas than a cluster has servers, and for any on a server alone."""


BUCKETS: Final = (
    names.BLUEPRINT_BUCKET,
    names.ASSIGNMENT_BUCKET,
    names.TRIGGER_BUCKET,
    names.CURSOR_BUCKET,
    names.ID_BUCKET,
)


class StreamSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator may choose about the streams."""

    replicas: int = 1
    lease: timedelta = timedelta(seconds=30)
    """How long an agent may be silent before its order goes to somebody else."""
    output_age: timedelta = timedelta(days=7)
    inbox_age: timedelta = timedelta(days=7)


def stream_configs(settings: StreamSettings) -> list[StreamConfig]:
    """The four streams of design.md §3."""
    kept = StreamConfig(storage=StorageType.FILE, num_replicas=settings.replicas, duplicate_window=120)
    return [
        kept.evolve(
            name=names.LOG_STREAM,
            subjects=[names.LOG_SUBJECTS],
            allow_direct=True,
            allow_atomic=True,
            republish=RePublish(src=names.BEGUN_SUBJECTS, dest=names.BEGINS),
        ),
        kept.evolve(
            name=names.WORK_STREAM,
            subjects=[names.WORK_SUBJECTS],
            retention=RetentionPolicy.WORK_QUEUE,
            max_consumers=MANY_CONSUMERS,
        ),
        kept.evolve(
            name=names.OUTPUT_STREAM,
            subjects=[names.OUTPUT_SUBJECTS],
            max_age=settings.output_age.total_seconds(),
            max_consumers=MANY_CONSUMERS,
            allow_direct=True,
        ),
        kept.evolve(
            name=names.INBOX_STREAM,
            subjects=[names.INBOX_SUBJECTS],
            retention=RetentionPolicy.WORK_QUEUE,
            max_age=settings.inbox_age.total_seconds(),
        ),
    ]


async def ensure(js: JetStreamContext, settings: StreamSettings) -> None:
    """Make what is missing, and change what is different; any number of brokers may do so at once.

    Raises:
        RefusedError: there are not as many servers as copies are wanted.
        StorageError: the server has no space.
        UnavailableError: it refuses for another reason, or does not answer.
    """
    try:
        await _ensure(js, settings)
    except APIError as error:
        if error.err_code in TOO_FEW_SERVERS:
            raise RefusedError(
                f"{settings.replicas} copies of each stream need a NATS cluster of as many servers "
                f"({error.description}); add servers, or start the broker with fewer --replicas"
            ) from error
        raise storing.refused(error) from error
    except TimeoutError as error:
        raise UnavailableError("JetStream does not answer; is the NATS server overloaded, or its disk?") from error


async def _ensure(js: JetStreamContext, settings: StreamSettings) -> None:
    for config in stream_configs(settings):
        await _stream(js, config)
    for bucket in BUCKETS:
        await _bucket(js, KeyValueConfig(bucket=bucket, storage=StorageType.FILE, replicas=settings.replicas))
    for stale in await consumers(js, names.INBOX_STREAM):
        if stale != names.INBOX_CONSUMER:  # an earlier version's: a work queue has no two consumers of one message
            await drop_consumer(js, names.INBOX_STREAM, stale)
    await work_consumer(js, names.INBOX_STREAM, names.INBOX_CONSUMER, names.INBOX_SUBJECTS, settings.lease)


async def _stream(js: JetStreamContext, config: StreamConfig) -> None:
    """Make a stream, or change what is different: a server without space takes no change, even if nothing changes."""
    try:
        found = (await js.stream_info(str(config.name))).config
    except NotFoundError:
        await (_output_stream(js, config) if config.name == names.OUTPUT_STREAM else js.add_stream(config))
        return
    if config.name == names.OUTPUT_STREAM:
        config = config.evolve(max_bytes=found.max_bytes)  # whoever looks after the server's disk has chosen it
    if not _says(found.as_dict(), config.as_dict()):
        await js.update_stream(config)


def _says(found: Any, wanted: Any) -> bool:
    """Whether a stream's settings are as wanted; the server adds its defaults."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return all(_says(found.get(key), value) for key, value in wanted.items() if value is not None)
    return bool(found == wanted)


async def _output_stream(js: JetStreamContext, config: StreamConfig) -> None:
    """Make the output stream, with a tenth of what can be reserved; a server says no more than whether it can be.

    A tenth to a twentieth, in fact: what is tried is halved until it passes.  Of an embedded server, who watches its
    disk sets it right.
    """
    tenth = disk.MOST_OUTPUT
    while True:
        try:
            await js.add_stream(config.evolve(max_bytes=10 * tenth))
            break
        except APIError as error:
            if error.err_code not in storing.NO_RESOURCES or tenth <= disk.LEAST_OUTPUT:
                raise
            tenth //= 2
    await js.update_stream(config.evolve(max_bytes=tenth))
    if tenth < disk.MOST_OUTPUT // 8:
        log.warning("output.short", size=disk.size(tenth), why="the NATS server has little space for its streams")


async def _bucket(js: JetStreamContext, config: KeyValueConfig) -> None:
    try:
        await js.key_value(str(config.bucket))
    except NotFoundError:
        with suppress(BadRequestError):  # another broker has made it just now
            await js.create_key_value(config)


async def work_consumer(js: JetStreamContext, stream: str, consumer: str, subject: str, lease: timedelta) -> None:
    """A durable pull consumer of released work, if it is not there yet.

    Redelivery has no end: whether an order may still run is the state machine's business, not a counter's.
    """
    await js.add_consumer(
        stream,
        ConsumerConfig(
            durable_name=consumer,
            filter_subject=subject,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=lease.total_seconds(),
            max_deliver=-1,
            max_ack_pending=100_000,
            max_waiting=100_000,
        ),
    )


async def consumers(js: JetStreamContext, stream: str) -> list[str]:
    """The names of all consumers of a stream; the server tells them in pages."""
    found: list[str] = []
    while page := await js.consumers_info(stream, offset=len(found)):
        found += [info.name for info in page]
    return found


async def drop_consumer(js: JetStreamContext, stream: str, consumer: str) -> None:
    """Remove a consumer, if it is there."""
    try:
        await js.delete_consumer(stream, consumer)
    except NotFoundError:
        return
    except APIError as error:
        if error.code != 404:  # noqa: PLR2004 - HTTP's "not found", in JetStream's clothes
            raise
