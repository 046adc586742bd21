"""What the tables keep, by the mesh's settings."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from muster.blueprints.manifest import load
from muster.broker.main import Broker
from muster.broker.projection import retention
from muster.broker.projection.database import kept
from muster.broker.projection.retention import Limits, prune_orders
from muster.broker.projection.tables import connect
from muster.mesh.caller import Caller

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture
def tables(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """The tables of a new broker."""
    path = tmp_path / "projection.sqlite"
    kept(path, "fast")
    with closing(connect(path, "fast")) as connection:
        yield connection


def put_order(
    tables: sqlite3.Connection, ident: str, days: float | None, state: str = "finished", parent: str | None = None
) -> None:
    """An order that ended so many days ago; None: it is open."""
    finished = None if days is None else (NOW - timedelta(days=days)).timestamp()
    tables.execute(
        "INSERT INTO orders (id, state, blueprint, parent, created, finished, doc) VALUES (?, ?, 'b', ?, 0, ?, '{}')",
        (ident, state, parent, finished),
    )


def orders(tables: sqlite3.Connection) -> list[str]:
    return [row[0] for row in tables.execute("SELECT id FROM orders ORDER BY n")]


def test_orders_are_removed_by_age_and_failed_ones_by_their_own(tables: sqlite3.Connection) -> None:
    put_order(tables, "old", 91)
    put_order(tables, "old-failed", 91, "failed")
    put_order(tables, "ancient-failed", 400, "failed")
    put_order(tables, "old-cancelled", 91, "cancelled")
    put_order(tables, "new", 1)
    put_order(tables, "open", None, "running")
    wanted = Limits(orders=timedelta(days=90), failed=timedelta(days=365))
    assert prune_orders(tables, wanted, NOW, 0) == 0
    assert orders(tables) == ["old-failed", "new", "open"]


def test_the_newest_orders_are_kept_by_count_and_open_ones_always(tables: sqlite3.Connection) -> None:
    put_order(tables, "open", None, "suspended")
    put_order(tables, "child-of-open", 1, parent="open")
    put_order(tables, "failed", 1, "failed")
    for number in range(8):
        put_order(tables, f"o{number}", 1)
    prune_orders(tables, Limits(count=3, failed=timedelta(days=2)), NOW, 0)
    assert orders(tables) == ["open", "child-of-open", "failed", "o5", "o6", "o7"]
    prune_orders(tables, Limits(count=3), NOW, 0)
    assert orders(tables) == ["open", "child-of-open", "o5", "o6", "o7"]


def test_orders_are_checked_a_part_at_a_time(tables: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "ROWS", 4)
    for number in range(10):
        put_order(tables, f"o{number}", 100 if number % 2 else 1)
    wanted, behind = Limits(orders=timedelta(days=90)), 0
    behind = prune_orders(tables, wanted, NOW, behind)
    assert orders(tables) == ["o0", "o2", "o4", "o5", "o6", "o7", "o8", "o9"]
    behind = prune_orders(tables, wanted, NOW, behind)
    assert prune_orders(tables, wanted, NOW, behind) == 0
    assert orders(tables) == ["o0", "o2", "o4", "o6", "o8"]


async def test_a_running_broker_follows_the_settings(broker: Broker) -> None:
    assert retention.limits(broker.state) == Limits()
    text = "kind: mesh\nname: mesh\nretention: {orders: {age: 90d, count: 5}, failed: {age: 365d}}"
    await broker.commands.objects.apply(load(text), by=Caller(door="test"))
    wanted = Limits(orders=timedelta(days=90), failed=timedelta(days=365), count=5)
    assert retention.limits(broker.state) == wanted
    await broker.prune.run_once(NOW)
