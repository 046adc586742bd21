"""The SQLite file: held, checked, made anew if it is not ours, and read when a broker starts."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, closing
from importlib.resources import files
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from muster.broker.projection.tables import connect
from muster.broker.state.element import Element, StoredObject
from muster.broker.state.kept import Kept
from muster.broker.state.standing import Standing
from muster.mesh.errors import UnavailableError
from muster.mesh.lock import taken_within
from muster.mesh.model import Order
from muster.mesh.settings import Durability

SCHEMA_VERSION: Final = 4
"""A file of another version is set aside and rebuilt from the log."""

PATIENCE: Final = 5.0
"""Seconds for the writing process of a broker that was killed to commit what it has, and to let go of the file."""

T = TypeVar("T")

_NOT_OURS: Final = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT})


@asynccontextmanager
async def held(path: Path, patience: float = PATIENCE) -> AsyncIterator[int]:
    """Nobody else writes this file.  The lock is an open file: freed once all who inherit it are gone, however.

    Raises:
        UnavailableError: another broker goes on holding it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not await taken_within(lock, patience):
            raise UnavailableError(f"another broker uses the folder {path.parent}; give each its own with --data")
        yield lock
    finally:
        os.close(lock)


def kept(path: Path, durability: Durability) -> Kept:
    """What the file knows of the state; a file that is not there, or is not of our making and version, is made.

    Raises:
        UnavailableError: the file cannot be opened or made (permissions, a full disk).
    """
    with closing(_open(path, durability)) as connection:
        rows = connection.execute
        return Kept(
            seq=int(rows("SELECT value FROM meta WHERE key = 'seq'").fetchone()[0]),
            objects=_docs(rows("SELECT doc FROM objects ORDER BY kind, name"), StoredObject),
            elements=_docs(rows("SELECT doc FROM elements ORDER BY name"), Element),
            orders=_docs(rows("SELECT doc FROM orders WHERE finished IS NULL ORDER BY n"), Order),
            standings=_docs(rows("SELECT doc FROM standings ORDER BY name"), Standing),
        )


def _docs(rows: Iterable[tuple[bytes]], kind: type[T]) -> list[T]:
    decoder = msgspec.json.Decoder(kind)
    return [decoder.decode(row[0]) for row in rows]


def _open(path: Path, durability: Durability) -> sqlite3.Connection:
    """The file if it is of our making and version; else a new one, for the log has everything."""
    connection = _connect(path, durability)
    if connection is not None and _version(connection) == SCHEMA_VERSION:
        return connection
    if connection is not None:
        connection.close()
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    connection = _connect(path, durability)
    if connection is None:
        raise UnavailableError(f"the projection {path} cannot be made: no SQLite file can be opened there")
    try:
        script = files("muster.broker.projection").joinpath("schema.sql").read_text()
        connection.executescript(f"BEGIN;{script}COMMIT;")
        connection.execute("INSERT INTO meta VALUES ('schema', ?), ('seq', 0)", (SCHEMA_VERSION,))
    except sqlite3.Error as error:
        raise UnavailableError(f"the projection {path} cannot be made: {error}") from error
    return connection


def _version(connection: sqlite3.Connection) -> int | None:
    try:
        row = connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
    except sqlite3.Error as error:
        if error.sqlite_errorcode in {*_NOT_OURS, sqlite3.SQLITE_ERROR}:  # no such table
            return None
        raise UnavailableError(f"the projection cannot be read: {error}") from error
    return row[0] if row else None


def _connect(path: Path, durability: Durability) -> sqlite3.Connection | None:
    """A connection, or None if the file is no database.

    Raises:
        UnavailableError: the file cannot be opened at all.
    """
    try:
        return connect(path, durability)
    except sqlite3.Error as error:
        if error.sqlite_errorcode in _NOT_OURS:
            return None
        raise UnavailableError(f"the projection {path} cannot be opened: {error}") from error
