"""Removes orders that the mesh's settings no longer keep, a few at a time.  The log keeps their records."""

from __future__ import annotations

import asyncio
import sqlite3
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
import structlog

from muster.blueprints.definition import duration
from muster.blueprints.objects.mesh import MESH, NAME, Mesh, Retention
from muster.broker.projection.writer import Writer
from muster.broker.state.world import World
from muster.mesh.errors import UnavailableError
from muster.mesh.service import Service

log = structlog.get_logger()

INTERVAL: Final = 60.0
"""Seconds between two passes over the orders."""

PAUSE: Final = 0.05
"""Seconds between two parts of a pass, for the batches."""

ROWS: Final = 5000
"""Rows that one call checks, so that the next batch never waits for long."""

_ORDERS: Final = """
SELECT n, state, finished, parent IN (SELECT id FROM orders WHERE finished IS NULL)
FROM orders WHERE n > ? ORDER BY n LIMIT ?
"""
_DELETE_ORDER: Final = "DELETE FROM orders WHERE n = ?"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How long the tables keep orders that ended; None for ever."""

    orders: timedelta | None = None
    count: int | None = None
    """The newest orders are kept, so many of them."""
    failed: timedelta | None = None
    """For orders that failed, instead of the other two; None: they are like the others."""


def limits(state: World) -> Limits:
    """Returns what the mesh's settings say; the defaults until there are settings."""
    mesh = state.objects.get(MESH.kind, NAME)
    kept = mesh.retention if isinstance(mesh, Mesh) else Retention()
    orders = duration(kept.orders.age) if kept.orders is not None and kept.orders.age is not None else None
    return Limits(
        orders=orders,
        failed=duration(kept.failed.age) if kept.failed is not None else None,
        count=kept.orders.count if kept.orders is not None else None,
    )


class Prune(Service):
    """Prunes the orders as long as the broker runs; a rebuilt projection is pruned again."""

    def __init__(self, writer: Writer, state: World) -> None:
        super().__init__()
        self._writer = writer
        self._state = state

    async def run(self) -> None:
        """Prunes until cancelled."""
        self.ready.set()
        while True:
            await asyncio.sleep(INTERVAL)
            try:
                await self.run_once(datetime.now(UTC))
            except UnavailableError as error:  # whoever writes batches reports it
                log.debug("retention.waits", error=str(error))

    async def run_once(self, now: datetime) -> None:
        """Checks all orders, a part at a time, and removes those that are too old.

        Raises:
            UnavailableError: the tables cannot be written.
        """
        wanted = limits(self._state)
        if wanted == Limits():
            return
        behind = await self._writer.call(prune_orders, wanted, now, 0)
        while behind:
            await asyncio.sleep(PAUSE)
            behind = await self._writer.call(prune_orders, wanted, now, behind)


def prune_orders(connection: sqlite3.Connection, wanted: Limits, now: datetime, behind: int) -> int:
    """Removes orders that ended too long ago, of the next `ROWS` behind one; returns the last one, or 0 at the end.

    An order whose parent is open stays: its parent shows it.

    Raises:
        sqlite3.Error: nothing was removed.
    """
    newest = connection.execute("SELECT coalesce(max(n), 0) FROM orders").fetchone()[0]
    first_kept = newest - wanted.count + 1 if wanted.count is not None else 0
    rows = connection.execute(_ORDERS, (behind, ROWS)).fetchall()
    old = []
    for n, state, finished, is_shown in rows:
        if finished is None or is_shown:
            continue
        has_own_age = state == "failed" and wanted.failed is not None
        age = wanted.failed if has_own_age else wanted.orders
        is_old = age is not None and finished < (now - age).timestamp()
        if is_old or (n < first_kept and not has_own_age):
            old.append((n,))
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.executemany(_DELETE_ORDER, old)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return int(rows[-1][0]) if len(rows) == ROWS else 0
