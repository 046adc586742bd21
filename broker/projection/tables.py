"""The tables, written a frame at a time: each is one transaction together with the log sequence that it reaches.

So each record is projected exactly once; and since rows are put in or replaced by their keys, a frame
may be written again by whoever does not know whether it was.
"""

from __future__ import annotations

import sqlite3
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from muster.broker.projection.frame import Doc, Frame
from muster.mesh.moment import rfc3339

EVENTS_KEPT: Final = 100_000
"""Log sequences whose events stay in the table; the log itself keeps everything."""

_PUT_ORDER: Final = """
INSERT INTO orders (id, state, blueprint, element, pool, parent, created, finished, doc)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET
  state = excluded.state, element = excluded.element, finished = excluded.finished, doc = excluded.doc
"""
_PUT_FIRING: Final = "INSERT OR REPLACE INTO firings (seq, id, trigger_name, state, doc) VALUES (?, ?, ?, ?, ?)"
_PUT_EVENT: Final = "INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?, ?)"
_PUT_THING: Final = "INSERT OR REPLACE INTO things (kind, id, seq, doc) VALUES (?, ?, ?, ?)"
_DELETE_THING: Final = "DELETE FROM things WHERE kind = ? AND id = ?"
_DELETE_OLD_EVENTS: Final = "DELETE FROM events WHERE seq <= ?"
_REACH: Final = "UPDATE meta SET value = ? WHERE key = ?"


class _Order(msgspec.Struct, frozen=True, kw_only=True):
    """Of an order, what is searched."""

    id: str
    state: str
    blueprint: str
    created_at: datetime
    element: str | None = None
    pool: str | None = None
    parent: str | None = None
    finished_at: datetime | None = None


_order = msgspec.json.Decoder(_Order).decode


def connect(path: Path, durability: str) -> sqlite3.Connection:
    """A connection that may write.

    Raises:
        sqlite3.Error: there can be none, or the file is no database.
    """
    connection = sqlite3.connect(path, isolation_level=None)
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


class Tables:
    """The tables of a file that is there already.

    Raises:
        sqlite3.Error: it cannot be opened.
    """

    def __init__(self, path: Path, durability: str) -> None:
        self._connection = connect(path, durability)

    def close(self) -> None:
        """Close the file; the last one to do so folds the write-ahead log in."""
        self._connection.close()

    def write(self, frame: Frame) -> None:
        """One transaction: all of the frame and its sequence, or nothing.

        Raises:
            sqlite3.Error: nothing was written.
        """
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.executemany(_PUT_ORDER, map(_order_row, frame.orders))
            connection.executemany(_PUT_THING, [row for row in frame.things if row[-1] is not None])
            connection.executemany(_DELETE_THING, [row[:2] for row in frame.things if row[-1] is None])
            connection.executemany(_PUT_FIRING, frame.firings)
            connection.executemany(_PUT_EVENT, frame.events)
            connection.execute(_DELETE_OLD_EVENTS, (frame.seq - EVENTS_KEPT,))
            connection.executemany(_REACH, ((frame.seq, "seq"), (rfc3339(frame.time), "time")))
            connection.execute("COMMIT")
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _order_row(doc: Doc) -> tuple[object, ...]:
    order = _order(doc)
    finished = order.finished_at
    return (
        order.id,
        order.state,
        order.blueprint,
        order.element,
        order.pool,
        order.parent,
        order.created_at.timestamp(),
        finished and finished.timestamp(),
        doc,
    )
