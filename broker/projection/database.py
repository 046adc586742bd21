"""The SQLite file: held, checked, made anew if it is not ours, and read when a broker starts."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import structlog

from muster.broker.projection.readers import Readers, Rows
from muster.broker.projection.tables import connect
from muster.broker.state.kept import Kept
from muster.mesh.errors import UnavailableError
from muster.mesh.lock import taken_within
from muster.mesh.model import Order
from muster.mesh.settings import Durability

log = structlog.get_logger()

SCHEMA_VERSION: Final = 8
"""A file of another version is set aside and rebuilt from the log; one more as well if records mean something else."""

LOCK_TIMEOUT: Final = 5.0
"""Seconds for a broker that is stopping to release the file."""

T = TypeVar("T")

PRIMARY: Final = 0xFF
"""The part of SQLite's error codes that says what it is; the rest says where."""

_NOT_OURS: Final = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR})
"""`SQLITE_ERROR`: there is no such table or column."""


@asynccontextmanager
async def held(path: Path, timeout: float = LOCK_TIMEOUT) -> AsyncIterator[None]:  # noqa: ASYNC109 - two callers, one wait
    """Nobody else writes this file.  The kernel releases the lock when the process ends, however it ends.

    Raises:
        UnavailableError: another broker holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not await taken_within(lock, timeout):
            raise UnavailableError(f"another broker uses the folder {path.parent}; give each its own with --data")
        yield
    finally:
        os.close(lock)


def kept(path: Path, durability: Durability) -> Kept:
    """Returns what the file has of the state; a file that is missing, damaged or of another version is created.

    Raises:
        UnavailableError: the file cannot be opened or made (permissions, a full disk).
    """
    is_there = path.exists()
    found = _read(path, durability)
    if isinstance(found, Kept):
        return found
    if is_there:
        log.warning("projection.rebuilt", file=str(path), why=found)
    _make(path, durability)
    return Kept(seq=0, time=None)


def _read(path: Path, durability: Durability) -> Kept | str:
    """Returns what the file knows; or why we cannot use it, for the log has everything."""
    try:
        with closing(connect(path, durability)) as connection:
            meta, orders, things = (connection.execute(question).fetchall() for question in _QUESTIONS)
            version = dict(meta)["schema"]
            if version != SCHEMA_VERSION:
                return f"it is of version {version}, not {SCHEMA_VERSION}"
            return _kept(meta, orders, things)
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & PRIMARY in _NOT_OURS:
            return str(error)
        raise UnavailableError(f"the projection {path} cannot be opened: {error}") from error
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError) as error:
        return repr(error)


async def kept_by(readers: Readers) -> Kept:
    """Returns the same of a file that is in use; nobody must write it meanwhile.

    Raises:
        UnavailableError: the file cannot be read.
    """
    return _kept(*[await readers.rows(question, ()) for question in _QUESTIONS])


_QUESTIONS: Final = (
    "SELECT key, value FROM meta",
    "SELECT doc FROM orders WHERE finished IS NULL ORDER BY n",
    "SELECT kind, id, doc FROM things ORDER BY kind, id",
)


def _kept(meta: Rows, orders: Rows, things: Rows) -> Kept:
    known: dict[str, Any] = dict(meta)
    return Kept(
        seq=int(known["seq"]),
        time=msgspec.convert(known["time"], datetime | None),
        orders=_docs(orders, Order),
        things=[_checked(row) for row in things],
    )


def _docs(rows: Rows, kind: type[T]) -> list[T]:
    decoder = msgspec.json.Decoder(kind)
    return [decoder.decode(row[0]) for row in rows]


def _checked(row: tuple[Any, ...]) -> tuple[str, str, bytes]:
    """A thing whose document is a JSON object, as we write them."""
    kind, ident, document = row
    msgspec.json.decode(document, type=dict)
    return kind, ident, document


def _make(path: Path, durability: Durability) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    script = files("muster.broker.projection").joinpath("schema.sql").read_text()
    try:
        with closing(connect(path, durability)) as connection:
            connection.executescript(f"BEGIN;{script}COMMIT;")
            made = "INSERT INTO meta VALUES ('schema', ?), ('seq', 0), ('time', NULL), ('events_after', 0)"
            connection.execute(made, (SCHEMA_VERSION,))
    except sqlite3.Error as error:
        raise UnavailableError(f"the projection {path} cannot be made: {error}") from error
