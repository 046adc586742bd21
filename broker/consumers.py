"""The durable consumers from which agents and brokers take work, and the lease that they grant.

A consumer's `ack_wait` is the lease: work that was not renewed for so long goes to somebody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from nats.aio.client import Client
from nats.js.errors import APIError, NotFoundError

from muster.mesh import names, storing
from muster.mesh.errors import UnavailableError
from muster.mesh.jetstream_api import ask

CHANGED_AT_ONCE: Final = 64
"""Consumers whose lease is being changed at the same time."""

EXISTS: Final = 10148
"""JetStream's err_code for a consumer that exists with other settings than the one that was to be created."""

OVERLAPS: Final = 10100
"""JetStream's err_code for a second consumer of the same messages of a work queue."""

MISSING: Final = 10149
"""JetStream's err_code for a change of a consumer that is missing."""

HTTP_NOT_FOUND: Final = 404


async def create(client: Client, stream: str, consumer: str, subject: str, lease: timedelta) -> bool:
    """Creates a durable pull consumer of released work; False if one exists with other settings, which it keeps.

    Redelivery has no end: the state machine decides whether an order may still run, not a counter.

    Raises:
        APIError: the server refuses.
        nats.errors.Error: there is no connection; so do `TimeoutError` and `OSError`.
    """
    config = {
        "durable_name": consumer,
        "filter_subject": subject,
        "ack_policy": "explicit",
        "ack_wait": _nanoseconds(lease),
        "max_deliver": -1,
        "max_ack_pending": 100_000,
        "max_waiting": 100_000,
    }
    body = {"stream_name": stream, "config": config, "action": "create"}
    try:
        await ask(client, f"CONSUMER.DURABLE.CREATE.{stream}.{consumer}", body)
    except APIError as error:
        if error.err_code != EXISTS:
            raise
        return False
    return True


async def keep(client: Client, stream: str, consumer: str, subject: str, lease: timedelta) -> None:
    """Creates a consumer, or gives one that exists at least this lease.

    It shortens none: a leader that was replaced must not know yet that the lease is longer by now.

    Raises:
        APIError: the server refuses.
        nats.errors.Error: there is no connection; so do `TimeoutError` and `OSError`.
    """
    if not await create(client, stream, consumer, subject, lease):
        found = await ask(client, f"CONSUMER.INFO.{stream}.{consumer}")
        if _granted_by(found) < lease:
            await _change(client, found, lease)


async def ensure_inbox(client: Client, lease: timedelta) -> timedelta:
    """Creates the inbox's consumer with this lease in a new mesh; returns the lease that holds.

    Raises:
        StorageError: the server has no space.
        UnavailableError: it refuses for another reason, or does not answer.
    """
    try:
        if found := await granted(client):
            return found
        await _create_inbox(client, lease)
        return await granted(client) or lease  # another broker may have been faster
    except APIError as error:
        raise storing.refused(error) from error
    except TimeoutError as error:
        raise UnavailableError("JetStream does not answer; is the NATS server overloaded, or its disk?") from error


async def _create_inbox(client: Client, lease: timedelta) -> None:
    try:
        await create(client, names.INBOX_STREAM, names.INBOX_CONSUMER, names.INBOX_SUBJECTS, lease)
    except APIError as error:
        if error.err_code != OVERLAPS:
            raise
        for older in await all_names(client, names.INBOX_STREAM):  # an earlier version's: it read a part of the inbox
            await drop(client, names.INBOX_STREAM, older)
        await create(client, names.INBOX_STREAM, names.INBOX_CONSUMER, names.INBOX_SUBJECTS, lease)


async def granted(client: Client) -> timedelta | None:
    """Returns the lease that all consumers of this mesh grant at least; None if there is no mesh yet.

    The inbox's consumer says so: `grant` changes it after all others.

    Raises:
        APIError: the server refuses.
        nats.errors.Error: there is no connection; so do `TimeoutError` and `OSError`.
    """
    try:
        found = await ask(client, f"CONSUMER.INFO.{names.INBOX_STREAM}.{names.INBOX_CONSUMER}")
    except NotFoundError:
        return None
    return _granted_by(found)


async def grant(client: Client, lease: timedelta) -> None:
    """Gives every consumer this lease, the inbox's last.

    Raises:
        APIError: the server refuses.
        nats.errors.Error: there is no connection; so do `TimeoutError` and `OSError`.
    """
    infos = await _all(client, names.WORK_STREAM)
    for start in range(0, len(infos), CHANGED_AT_ONCE):
        await asyncio.gather(*(_change(client, info, lease) for info in infos[start : start + CHANGED_AT_ONCE]))
    if not await create(client, names.INBOX_STREAM, names.INBOX_CONSUMER, names.INBOX_SUBJECTS, lease):
        inbox = await ask(client, f"CONSUMER.INFO.{names.INBOX_STREAM}.{names.INBOX_CONSUMER}")
        await _change(client, inbox, lease)


def _granted_by(info: dict[str, Any]) -> timedelta:
    return timedelta(microseconds=info["config"].get("ack_wait", 0) / 1000)


async def _change(client: Client, info: dict[str, Any], lease: timedelta) -> None:
    config, wait = info["config"], _nanoseconds(lease)
    if config.get("ack_wait") == wait:
        return
    stream, consumer = info["stream_name"], info["name"]
    body = {"stream_name": stream, "config": {**config, "ack_wait": wait}, "action": "update"}
    try:
        await ask(client, f"CONSUMER.DURABLE.CREATE.{stream}.{consumer}", body)
    except APIError as error:
        if not _is_missing(error):  # its element was deleted meanwhile
            raise


async def all_names(client: Client, stream: str) -> list[str]:
    """Returns the names of all consumers of a stream.

    Raises:
        APIError: the server refuses.
        nats.errors.Error: there is no connection; so do `TimeoutError` and `OSError`.
    """
    return [str(info["name"]) for info in await _all(client, stream)]


async def _all(client: Client, stream: str) -> Sequence[dict[str, Any]]:
    """Every consumer of a stream; the server lists them in pages."""
    found: list[dict[str, Any]] = []
    while page := (await ask(client, f"CONSUMER.LIST.{stream}", {"offset": len(found)}))["consumers"]:
        found += page
    return found


async def drop(client: Client, stream: str, consumer: str) -> None:
    """Removes a consumer, if there is one.

    Raises:
        APIError: the server refuses.
        nats.errors.Error: there is no connection; so do `TimeoutError` and `OSError`.
    """
    try:
        await ask(client, f"CONSUMER.DELETE.{stream}.{consumer}")
    except APIError as error:
        if not _is_missing(error):
            raise


def _is_missing(error: APIError) -> bool:
    return error.code == HTTP_NOT_FOUND or error.err_code == MISSING


def _nanoseconds(lease: timedelta) -> int:
    return lease // timedelta(microseconds=1) * 1000
