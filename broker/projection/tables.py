"""The tables, written a batch at a time: each is one transaction together with the log sequence that it reaches.

So each record is projected exactly once.  Rows are inserted or replaced by their keys, so a batch may be written
twice if nobody knows whether the first time succeeded.

Many rows go to SQLite as two values: their columns as a JSON array, and their documents as one blob.  SQLite takes
them apart without Python's lock, which the event loop needs meanwhile; one statement a row asked for it at each row.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

import msgspec

from muster.broker.projection.batch import Batch
from muster.mesh.firing import Firing
from muster.mesh.model import Order
from muster.mesh.moment import rfc3339

EVENTS_AGE: Final = timedelta(days=7)
"""How long events are kept if nobody says otherwise; the log itself keeps everything."""

MARK_INTERVAL: Final = 10.0
"""Seconds, in the log's time, between two marks: events are deleted for so long a time at once."""

CHUNK: Final = 8 * 2**20
"""Bytes of documents in one statement."""

Row = tuple[tuple[object, ...], bytes]
"""A row's columns, and its document."""

_encode = msgspec.json.Encoder().encode


def _put(table: str, *columns: str, conflict: str = "") -> str:
    """Returns the statement that inserts or replaces rows."""
    names, count = ", ".join(columns), len(columns)
    values = ", ".join(f"json_extract(value, '$[{place}]')" for place in range(count))
    document = f"substr(?2, json_extract(value, '$[{count}]'), json_extract(value, '$[{count + 1}]'))"
    verb = "INSERT" if conflict else "INSERT OR REPLACE"
    rows = f"SELECT {values}, {document} FROM json_each(?1) WHERE true"  # noqa: S608 - our own words
    return f"{verb} INTO {table} ({names}, doc) {rows} {conflict}"


_PUT_ORDERS: Final = _put(
    "orders",
    *("id", "state", "blueprint", "element", "pool", "parent", "created", "finished"),
    conflict="ON CONFLICT (id) DO UPDATE SET state = excluded.state, element = excluded.element, "
    "finished = excluded.finished, doc = excluded.doc",
)
_PUT_THINGS: Final = _put("things", "kind", "id", "seq")
_DELETE_THINGS: Final = """
DELETE FROM things
WHERE (kind, id) IN (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?))
"""
_PUT_FIRINGS: Final = _put("firings", "seq", "id", "trigger_name", "state")
_PUT_EVENTS: Final = _put("events", "seq", "place", "kind", "subject")
_MARK: Final = "INSERT INTO marks SELECT ?1, ?2 WHERE NOT EXISTS (SELECT 1 FROM marks WHERE time > ?1 - ?3)"
_OLD: Final = "SELECT max(seq) FROM marks WHERE time <= ?"
_DELETE_OLD_EVENTS: Final = "DELETE FROM events WHERE seq <= ?"
_DELETE_OLD_MARKS: Final = "DELETE FROM marks WHERE time <= ?"
_FORGET: Final = "UPDATE meta SET value = max(value, ?) WHERE key = 'events_after'"
_REACH: Final = "UPDATE meta SET value = ? WHERE key = ?"


def connect(path: Path, durability: str) -> sqlite3.Connection:
    """Returns a connection that may write, from any thread but only one at a time.

    Raises:
        sqlite3.Error: the file cannot be opened, or is not a database.
    """
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {'FULL' if durability == 'safe' else 'NORMAL'}")
        connection.execute("PRAGMA cache_size = -16384")
        connection.execute("PRAGMA wal_autocheckpoint = 8000")
        connection.execute("PRAGMA busy_timeout = 5000")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def write(connection: sqlite3.Connection, batch: Batch, events_age: timedelta = EVENTS_AGE) -> None:
    """Writes one transaction: all of the batch and its sequence, or nothing; events older than an age are deleted.

    Raises:
        sqlite3.Error: nothing was written.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        _insert(connection, _PUT_ORDERS, map(_order_row, batch.orders.values()))
        _insert(connection, _PUT_THINGS, _thing_rows(batch))
        if gone := [key for key, (_, thing) in batch.things.items() if thing is None]:
            connection.execute(_DELETE_THINGS, (_encode(gone).decode(),))
        _insert(connection, _PUT_FIRINGS, map(_firing_row, batch.firings))
        _insert(connection, _PUT_EVENTS, ((row[:-1], row[-1]) for row in batch.event_rows))
        _forget(connection, batch, events_age)
        connection.executemany(_REACH, ((batch.seq, "seq"), (rfc3339(batch.stamp.time), "time")))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _insert(connection: sqlite3.Connection, statement: str, rows: Iterable[Row]) -> None:
    """Runs a statement once for as many rows as fit in a chunk."""
    columns: list[tuple[object, ...]] = []
    documents = bytearray()
    for its_columns, document in rows:
        columns.append((*its_columns, len(documents) + 1, len(document)))
        documents += document
        if len(documents) >= CHUNK:
            connection.execute(statement, (_encode(columns).decode(), documents))
            columns, documents = [], bytearray()
    if columns:
        connection.execute(statement, (_encode(columns).decode(), documents))


def _forget(connection: sqlite3.Connection, batch: Batch, events_age: timedelta) -> None:
    """Deletes old events, and notes how far they are gone.  Time is the log's."""
    now = batch.stamp.time.timestamp()
    limit = now - events_age.total_seconds()
    connection.execute(_MARK, (now, batch.seq, MARK_INTERVAL))
    old = connection.execute(_OLD, (limit,)).fetchone()[0]
    if old is not None:
        connection.execute(_DELETE_OLD_EVENTS, (old,))
        connection.execute(_DELETE_OLD_MARKS, (limit,))
    if gone := max(old or 0, batch.untold):
        connection.execute(_FORGET, (gone,))


def _order_row(order: Order) -> Row:
    finished = order.finished_at
    columns = (
        order.id,
        order.state,
        order.blueprint,
        order.element,
        order.pool,
        order.parent,
        order.created_at.timestamp(),
        finished and finished.timestamp(),
    )
    return columns, _encode(order)


def _thing_rows(batch: Batch) -> Iterator[Row]:
    for key, (seq, thing) in batch.things.items():
        if thing is not None:
            yield (*key, seq), _encode(thing)


def _firing_row(firing: Firing) -> Row:
    return (firing.seq, firing.id, firing.trigger, firing.state), _encode(firing)
