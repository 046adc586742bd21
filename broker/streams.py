"""The streams and buckets of a mesh: created if they are missing, and changed only on purpose.

A broker that starts changes nothing of a stream that exists, except that it adds what its version needs.  So an
older broker, or one with other flags, takes no setting away.  What people choose is on the log as the `mesh` object;
the leader makes it so with `change`.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

import msgspec
import structlog
from nats.aio.client import Client
from nats.js.api import KeyValueConfig, StorageType
from nats.js.errors import APIError, BadRequestError, NotFoundError

from muster.mesh import disk, names, storing
from muster.mesh.errors import RefusedError, UnavailableError
from muster.mesh.jetstream_api import ask, change_stream, stream_config

log = structlog.get_logger()

MAX_CONSUMERS: Final = 1_000_000
"""nats-server 2.15 refuses the 1,001st consumer of a stream unless its config says a number (err_code 10026)."""

TOO_FEW_SERVERS: Final = frozenset({10005, 10074})
"""JetStream's err_code for more replicas than a cluster has servers, and for any on a server alone."""

DUPLICATE_WINDOW: Final = timedelta(minutes=2)
"""For how long a stream recognizes a message that is published again."""

STREAMS: Final = (names.LOG_STREAM, names.WORK_STREAM, names.OUTPUT_STREAM, names.INBOX_STREAM)

BUCKETS: Final = (
    names.BLUEPRINT_BUCKET,
    names.ASSIGNMENT_BUCKET,
    names.TRIGGER_BUCKET,
    names.CURSOR_BUCKET,
    names.ID_BUCKET,
)


class StreamSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What people may choose about the streams."""

    replicas: int = 1
    output_age: timedelta = timedelta(days=7)
    output_size: int = disk.MOST_OUTPUT
    """Bytes; a disk with less space keeps less."""
    inbox_age: timedelta = timedelta(days=7)


def stream_configs(settings: StreamSettings) -> list[dict[str, Any]]:
    """The four streams of design.md §3, as a new mesh has them."""
    kept = {
        "storage": "file",
        "num_replicas": settings.replicas,
        "duplicate_window": _nanoseconds(timedelta(minutes=2)),
    }
    return [
        {
            **kept,
            "name": names.LOG_STREAM,
            "subjects": [names.LOG_SUBJECTS],
            "allow_direct": True,
            "allow_atomic": True,
            "republish": {"src": names.DIRECT_STARTS, "dest": names.REPUBLISHED_STARTS},
        },
        {
            **kept,
            "name": names.WORK_STREAM,
            "subjects": [names.WORK_SUBJECTS],
            "retention": "workqueue",
            "max_consumers": MAX_CONSUMERS,
        },
        {
            **kept,
            "name": names.OUTPUT_STREAM,
            "subjects": [names.OUTPUT_SUBJECTS],
            "max_age": _nanoseconds(settings.output_age),
            "max_consumers": MAX_CONSUMERS,
            "allow_direct": True,
        },
        {
            **kept,
            "name": names.INBOX_STREAM,
            "subjects": [names.INBOX_SUBJECTS],
            "retention": "workqueue",
            "max_age": _nanoseconds(settings.inbox_age),
        },
    ]


async def ensure(client: Client, settings: StreamSettings) -> StreamSettings:
    """Creates what is missing and adds what this version needs; any number of brokers may do so at once.

    Returns the settings that hold: those of the streams that existed before.

    Raises:
        RefusedError: there are not as many servers as copies are wanted.
        StorageError: the server has no space.
        UnavailableError: it refuses for another reason, or does not answer.
    """
    try:
        found = await _found(client)
        settings = found or settings
        for config in stream_configs(settings):
            await _ensure_stream(client, config, settings)
        for bucket in BUCKETS:
            await _ensure_bucket(client, KeyValueConfig(bucket=bucket, replicas=settings.replicas))
    except APIError as error:
        raise refused(error, settings.replicas) from error
    except TimeoutError as error:
        raise UnavailableError("JetStream does not answer; is the NATS server overloaded, or its disk?") from error
    return settings


def refused(error: APIError, replicas: int) -> RefusedError | UnavailableError:
    """What it means that the server refused a stream with so many copies."""
    if error.err_code in TOO_FEW_SERVERS and not storing.is_short(error):
        return RefusedError(
            f"{replicas} copies of each stream need a NATS cluster of as many servers ({error.description}); "
            "add servers, or ask for fewer `replicas`"
        )
    return storing.refused(error)


async def _found(client: Client) -> StreamSettings | None:
    """The settings of a mesh that exists; None if this is a new one."""
    try:
        log_stream = await stream_config(client, names.LOG_STREAM)
        output = await stream_config(client, names.OUTPUT_STREAM)
    except NotFoundError:
        return None
    return StreamSettings(
        replicas=int(log_stream["num_replicas"]),
        output_age=timedelta(microseconds=int(output.get("max_age", 0)) / 1000),
        output_size=disk.wanted_output(output),
    )


async def _ensure_stream(client: Client, config: dict[str, Any], settings: StreamSettings) -> None:
    name = config["name"]
    try:
        found = await stream_config(client, name)
    except NotFoundError:
        if name == names.OUTPUT_STREAM:
            await _create_output(client, config, settings.output_size)
        else:
            await ask(client, f"STREAM.CREATE.{name}", config)
        return
    if changes := _additions(found, config):
        log.info("stream.extended", stream=name, settings=sorted(changes))
        await change_stream(client, found, changes)


def _additions(found: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """What a stream of an earlier version lacks.  What it has beyond that, a later version needs."""
    changes: dict[str, Any] = {}
    for key in ("allow_direct", "allow_atomic", "republish"):
        if key in wanted and not found.get(key):
            changes[key] = wanted[key]
    if missing := [subject for subject in wanted["subjects"] if subject not in found["subjects"]]:
        changes["subjects"] = [*found["subjects"], *missing]
    if found.get("max_consumers", -1) < wanted.get("max_consumers", -1):
        changes["max_consumers"] = wanted["max_consumers"]
    return changes


async def _create_output(client: Client, config: dict[str, Any], size: int) -> None:
    """Creates the output stream with a tenth of what can be reserved; a server says no more than whether it can be.

    A tenth to a twentieth, in fact: what is tried is halved until it passes.  Whoever watches the disk of an embedded
    server corrects it.
    """
    create, tenth = f"STREAM.CREATE.{config['name']}", size
    while True:
        try:
            await ask(client, create, {**config, "max_bytes": 10 * tenth})
            break
        except APIError as error:
            if not storing.is_short(error) or tenth <= disk.LEAST_OUTPUT:
                raise
            tenth //= 2
    await change_stream(client, await stream_config(client, config["name"]), {"max_bytes": tenth})
    if tenth < size // 8:
        log.warning("output.short", size=disk.size(tenth), why="the NATS server has little space for its streams")


async def _ensure_bucket(client: Client, config: KeyValueConfig) -> None:
    js = client.jetstream()
    try:
        await js.key_value(str(config.bucket))
    except NotFoundError:
        with suppress(BadRequestError):  # another broker has just created it
            await js.create_key_value(config.evolve(storage=StorageType.FILE))


async def change(client: Client, settings: StreamSettings) -> None:
    """Gives the streams the settings that people chose.

    If the server has less space than output is to have, its stream keeps the size it has, and notes what is wanted.

    Raises:
        RefusedError: there are not as many servers as copies are wanted.
        StorageError: the server has no space.
        UnavailableError: it refuses for another reason, or does not answer.
    """
    try:
        for stream in (*STREAMS, *map(names.bucket_stream, (*BUCKETS, names.LEADER_BUCKET))):
            with suppress(NotFoundError):
                found = await stream_config(client, stream)
                if found["num_replicas"] != settings.replicas:
                    await change_stream(client, found, {"num_replicas": settings.replicas})
        await _change_output(client, settings)
    except APIError as error:
        raise refused(error, settings.replicas) from error
    except TimeoutError as error:
        raise UnavailableError("JetStream does not answer; is the NATS server overloaded, or its disk?") from error


async def _change_output(client: Client, settings: StreamSettings) -> None:
    found = await stream_config(client, names.OUTPUT_STREAM)
    changes: dict[str, Any] = {}
    if found.get("max_age", 0) != (age := _nanoseconds(settings.output_age)):
        changes["max_age"] = age
    size, now = settings.output_size, int(found["max_bytes"])
    if disk.wanted_output(found) != size:
        changes |= {"metadata": {**(found.get("metadata") or {}), disk.OUTPUT_SIZE: str(size)}, "max_bytes": size}
    if not changes:
        return
    try:
        await change_stream(client, found, changes)
    except APIError as error:
        if not storing.is_short(error) or size <= now:
            raise
        await change_stream(client, found, {**changes, "max_bytes": now})
        log.warning(
            "output.short", wanted=disk.size(size), size=disk.size(now), why="the NATS server has no more space"
        )


async def check_replicas(client: Client, replicas: int) -> None:
    """Checks that the server can keep so many copies, with a stream that is removed at once.

    Raises:
        RefusedError: it cannot.
        UnavailableError: it does not answer, or refuses for another reason.
    """
    name = f"MUSTER_TRIAL_{names.new_id()}"
    config = {"name": name, "subjects": [f"muster.trial.{name}"], "storage": "memory", "num_replicas": replicas}
    try:
        await ask(client, f"STREAM.CREATE.{name}", config)
        await ask(client, f"STREAM.DELETE.{name}")
    except APIError as error:
        raise refused(error, replicas) from error
    except TimeoutError as error:
        raise UnavailableError("JetStream does not answer; is the NATS server overloaded, or its disk?") from error


def _nanoseconds(span: timedelta) -> int:
    return span // timedelta(microseconds=1) * 1000
