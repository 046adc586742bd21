"""Checks that the log is the one that this broker knows, and that no record between the two is missing."""

from __future__ import annotations

from datetime import datetime

import structlog
from nats.aio.client import Client
from nats.js.errors import NotFoundError

from muster.mesh import names, records
from muster.mesh.errors import UnavailableError
from muster.mesh.names import LOG_STREAM

log = structlog.get_logger()


async def check_log(client: Client, seq: int, time: datetime | None) -> int:
    """Returns the last sequence of the log, if it is the one that the projection has seen.

    The projection ends with the record at `seq`, which was stored at `time`.

    Raises:
        UnavailableError: it is another log; the message says what to do.
    """
    last = (await client.jetstream().stream_info(LOG_STREAM)).state.last_seq
    if seq and (last < seq or not await _has(client, seq, time)):
        log.error("log.replaced", log=last, projection=seq)
        raise UnavailableError(
            f"the log, which ends at {last}, is not the one of which the projection has seen {seq} records: "
            "it was replaced or restored; delete the projection file to rebuild it"
        )
    return last


async def _has(client: Client, seq: int, time: datetime | None) -> bool:
    """Whether the record at `seq` is the one that the projection has seen there."""
    try:
        found = await client.jetstream().get_msg(LOG_STREAM, seq)
    except NotFoundError:  # the log was trimmed up to there
        return True
    return found.time == time


async def check_next(client: Client, seq: int) -> None:
    """Checks that no record between the one at `seq` and the end of the log is missing.

    Raises:
        UnavailableError: the next one is missing; the message says what to do.
        nats.errors.Error: there is no connection; so do `TimeoutError` and `OSError`.
    """
    js = client.jetstream()
    last = (await js.stream_info(LOG_STREAM)).state.last_seq
    if last <= seq:
        return
    try:
        message = await js.get_msg(LOG_STREAM, seq + 1, subject=">", next=True)
        found = int(message.seq or 0)
    except NotFoundError:
        found = last + 1
    else:
        if found == 1:
            _check_first(str(message.subject), message.data or b"")
    if found == seq + 1:
        return
    which = f"record {found - 1} is" if found == seq + 2 else f"records {seq + 1} to {found - 1} are"
    log.error("log.incomplete", seen=seq, next=found)
    raise UnavailableError(
        f"the log is incomplete: {which} missing, and this broker has not seen them; restore the streams of the NATS "
        "server from a backup, or give this broker the projection.sqlite of a stopped broker that has seen them"
    )


def _check_first(subject: str, data: bytes) -> None:
    """Checks that the first record, which a broker has written, is one that this version reads.

    Raises:
        UnavailableError: it is not; the message says what to do.
    """
    record, place = records.decode(subject, data)
    if isinstance(record, str) and place is not None and place.actor == names.BROKER:
        raise UnavailableError(
            f"the log was written by another version of Muster: its first record is not readable here ({record}); "
            "run the version that wrote it, or start with an empty data folder and apply your manifests anew"
        )
