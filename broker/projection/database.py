"""The SQLite file: opened, checked, and written a batch at a time.

A batch is one transaction together with the log sequence it reaches, so each record is projected
exactly once.  Calls block: the `Projector` makes them on one thread of its own, one call a batch
(a library that goes to its thread for every statement costs five times as much).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib.resources import files
from itertools import chain
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from muster.broker.state.changes import Changes
from muster.broker.state.element import Element, StoredObject
from muster.broker.state.kept import Kept
from muster.broker.state.standing import Standing
from muster.mesh.errors import UnavailableError
from muster.mesh.events import Event, cloud_event
from muster.mesh.firing import Firing
from muster.mesh.lock import taken
from muster.mesh.model import Order
from muster.mesh.settings import Durability

SCHEMA_VERSION: Final = 3
"""A file of another version is set aside and rebuilt from the log."""

EVENTS_KEPT: Final = 100_000
"""Log sequences whose events stay in the table; the log itself keeps everything."""

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode

_NOT_OURS: Final = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT})

_PUT_ORDERS = """
INSERT INTO orders (id, state, blueprint, element, pool, parent, created, finished, doc)
VALUES {}
ON CONFLICT (id) DO UPDATE SET
  state = excluded.state, element = excluded.element, finished = excluded.finished, doc = excluded.doc
"""
_PUT_FIRINGS = "INSERT OR REPLACE INTO firings (seq, id, trigger_name, state, doc) VALUES {}"
_PUT_EVENTS = "INSERT OR REPLACE INTO events VALUES {}"

AT_ONCE: Final = tuple(2**power for power in range(9, -1, -1))
"""Rows of one statement, the most first; SQLite takes 32,766 values."""


EventRow = tuple[int, int, str, str, bytes]
"""Sequence, place, kind, subject, and the event as CloudEvents JSON."""


class Batch:
    """The changes of many records, the last one of each thing only."""

    __slots__ = ("elements", "event_rows", "events", "firings", "objects", "orders", "seq", "standings")

    def __init__(self) -> None:
        self.seq = 0
        self.orders: dict[str, Order] = {}
        self.elements: dict[str, Element | None] = {}
        self.objects: dict[tuple[str, str], StoredObject | None] = {}
        self.firings: list[tuple[int, Firing]] = []
        """Each with its sequence."""
        self.standings: dict[str, Standing | None] = {}
        self.events: list[Event] = []
        self.event_rows: list[EventRow] = []

    def add(self, changes: Changes) -> None:
        """Take in what one record changed."""
        self.seq = changes.stamp.seq
        if changes.orders:
            self.orders.update(changes.orders)
        if changes.elements:
            self.elements.update(changes.elements)
        for stored in changes.objects:
            self.objects[stored.kind, stored.name] = stored
        for key in changes.deleted:
            self.objects[key] = None
        if changes.firings:
            self.firings += [(self.seq, firing) for firing in changes.firings.values()]
        if changes.standings:
            self.standings.update(changes.standings)
        for place, event in enumerate(changes.events):
            self.events.append(event)
            self.event_rows.append((self.seq, place, event.kind, event.subject, cloud_event(event)))


class Database:
    """The projection's file.

    Raises:
        UnavailableError: the file cannot be written (a full disk, permissions).
    """

    def __init__(self, path: Path, durability: Durability) -> None:
        self.path = path
        self._lock = _lock(path.with_suffix(".lock"))
        self._connection = _open(path, durability)

    def close(self) -> None:
        """Close the file; the write-ahead log is folded in."""
        self._connection.close()
        os.close(self._lock)

    def kept(self) -> Kept:
        """What the file knows of the state."""
        rows = self._connection.execute
        return Kept(
            seq=int(rows("SELECT value FROM meta WHERE key = 'seq'").fetchone()[0]),
            objects=_docs(rows("SELECT doc FROM objects ORDER BY kind, name"), StoredObject),
            elements=_docs(rows("SELECT doc FROM elements ORDER BY name"), Element),
            orders=_docs(rows("SELECT doc FROM orders WHERE finished IS NULL ORDER BY n"), Order),
            standings=_docs(rows("SELECT doc FROM standings ORDER BY name"), Standing),
        )

    def write(self, batch: Batch) -> None:
        """One transaction: all of the batch and its sequence, or nothing."""
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            _put(connection, _PUT_ORDERS, [_order_row(order) for order in batch.orders.values()])
            if batch.objects:
                self._write_objects(batch)
            if batch.elements:
                self._write_elements(batch)
            if batch.firings:
                _put(connection, _PUT_FIRINGS, [_firing_row(kept) for kept in batch.firings])
            if batch.standings:
                self._write_standings(batch)
            _put(connection, _PUT_EVENTS, batch.event_rows)
            connection.execute("DELETE FROM events WHERE seq <= ?", (batch.seq - EVENTS_KEPT,))
            connection.execute("UPDATE meta SET value = ? WHERE key = 'seq'", (batch.seq,))
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise UnavailableError(
                f"the projection {self.path} cannot be written: {error}; nothing is lost, it goes on once there is room"
            ) from error

    def _write_objects(self, batch: Batch) -> None:
        for (kind, name), stored in batch.objects.items():
            if stored is None:
                self._connection.execute("DELETE FROM objects WHERE kind = ? AND name = ?", (kind, name))
            else:
                self._connection.execute(
                    "INSERT OR REPLACE INTO objects VALUES (?, ?, ?)", (kind, name, _encode(stored))
                )

    def _write_elements(self, batch: Batch) -> None:
        for name, element in batch.elements.items():
            if element is None:
                self._connection.execute("DELETE FROM elements WHERE name = ?", (name,))
            else:
                self._connection.execute("INSERT OR REPLACE INTO elements VALUES (?, ?)", (name, _encode(element)))

    def _write_standings(self, batch: Batch) -> None:
        for name, standing in batch.standings.items():
            if standing is None:
                self._connection.execute("DELETE FROM standings WHERE name = ?", (name,))
            else:
                self._connection.execute("INSERT OR REPLACE INTO standings VALUES (?, ?)", (name, _encode(standing)))


def _firing_row(kept: tuple[int, Firing]) -> tuple[object, ...]:
    seq, firing = kept
    return seq, firing.id, firing.trigger, firing.state, _encode(firing)


def _put(connection: sqlite3.Connection, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
    """Insert rows, many with one statement.

    SQLite lets go of Python's lock for each statement, and as long as the loop has records to apply it takes
    milliseconds to have it again.
    """
    start = 0
    for size in AT_ONCE:
        while len(rows) - start >= size:
            values = tuple(chain.from_iterable(rows[start : start + size]))
            connection.execute(_with_places(statement, size, len(rows[0])), values)
            start += size


@lru_cache(maxsize=2 * len(AT_ONCE))
def _with_places(statement: str, rows: int, columns: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return statement.format(", ".join([row] * rows))


def _order_row(order: Order) -> tuple[object, ...]:
    return (
        order.id,
        str(order.state),  # plain text: for any other type sqlite3 looks for an adapter, 0.6 us
        order.blueprint,
        order.element,
        order.pool,
        order.parent,
        order.created_at.timestamp(),
        order.finished_at.timestamp() if order.finished_at else None,
        _encode(order),
    )


def _docs(rows: Iterable[tuple[bytes]], kind: type[T]) -> list[T]:
    decoder = msgspec.json.Decoder(kind)
    return [decoder.decode(row[0]) for row in rows]


def _open(path: Path, durability: Durability) -> sqlite3.Connection:
    """The file if it is of our making and version; else a new one, for the log has everything."""
    path.parent.mkdir(parents=True, exist_ok=True)
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
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise UnavailableError(f"the projection {path} cannot be opened: {error}") from error
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {'FULL' if durability == 'safe' else 'NORMAL'}")
        connection.execute("PRAGMA cache_size = -16384")
        connection.execute("PRAGMA wal_autocheckpoint = 8000")
        connection.execute("PRAGMA busy_timeout = 5000")
    except sqlite3.Error as error:
        connection.close()
        if error.sqlite_errorcode in _NOT_OURS:
            return None
        raise UnavailableError(f"the projection {path} cannot be opened: {error}") from error
    return connection


def _lock(path: Path) -> int:
    """Two brokers may not write one file; the kernel lets go when the process ends, however it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not taken(handle):
        os.close(handle)
        raise UnavailableError(f"another broker uses the folder {path.parent}; give each its own with --data")
    return handle
