"""The projection's file: what it keeps, and what becomes of it when it is not ours."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muster.broker.projection.database import AT_ONCE, Batch, Database
from muster.broker.state.machine import State
from muster.mesh import names, records
from muster.mesh.errors import UnavailableError
from muster.mesh.model import OrderState

START = datetime(2026, 1, 1, tzinfo=UTC)
TABLES = ("orders", "elements", "objects", "events", "firings", "standings")

MANIFESTS = (
    {"kind": "machine", "name": "web01"},
    {
        "kind": "trigger",
        "name": "t",
        "provider": "none",
        "blueprint": "b",
        "target": {"on": "web01"},
        "max_open": 2,
        "on_overlap": "replace",
    },
)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "projection.sqlite", "fast")
    yield opened
    opened.close()


def story(orders: int) -> list[tuple[str, bytes]]:
    """What the log says of some orders on one machine."""
    said: list[tuple[records.Record, str]] = [
        (records.Applied(id="x", manifests=MANIFESTS, by="test"), names.BROKER),
        (records.Joined(element="web01", agent="one"), names.BROKER),
    ]
    for number in range(orders):
        order, firing = f"order{number}", f"firing{number}"
        planned = tuple(records.Planned(id=f"{firing}.{place}", element="web01") for place in range(number % 3))
        said += [
            (
                records.Fired(
                    id=firing,
                    trigger="t",
                    version=1,
                    by="test",
                    event=msgspec.Raw(b'{"body": 1}'),
                    due=START,
                    orders=planned,
                ),
                names.BROKER,
            ),
            (
                records.Created(order=order, blueprint="b", version=1, digest="d", by="test", element="web01"),
                names.BROKER,
            ),
            (records.Claimed(order=order, attempt=1, element="web01", agent="one"), "web01"),
            (records.Done(order=order, attempt=1, state=OrderState.FINISHED), "web01"),
        ]
    said += [(records.CancelRequested(order=f"firing{orders - 1}.{n}", by="test"), names.BROKER) for n in range(3)]
    said += [(records.CancelRequested(order=f"firing{orders - 2}.{n}", by="test"), names.BROKER) for n in range(3)]
    said.append((records.Deleted(id="y", object_kind="machine", name="web01", by="test"), names.BROKER))
    return [(records.subject(record, actor), records.encode(record)) for record, actor in said]


def project(database: Database, log: list[tuple[str, bytes]], batch_size: int, told_after: int = 0) -> None:
    state, batch = State(), Batch()
    state.told_after = told_after
    for seq, (subject, data) in enumerate(log, start=1):
        batch.add(state.apply(seq, START + timedelta(seconds=seq), subject, data))
        if seq % batch_size == 0 or seq == len(log):
            database.write(batch)
            batch = Batch()


def rows(path: Path) -> dict[str, list[tuple[object, ...]]]:
    connection = sqlite3.connect(path)
    found = {table: connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in TABLES}
    connection.close()
    return found


@given(batch_size=st.integers(min_value=1, max_value=200))
@settings(max_examples=20, deadline=None)
def test_the_rows_do_not_depend_on_how_the_log_came_in_batches(
    tmp_path_factory: pytest.TempPathFactory, batch_size: int
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    log = story(orders=50)
    for name, size in (("whole", len(log)), ("parts", batch_size)):
        opened = Database(folder / name, "fast")
        project(opened, log, size)
        opened.close()
    assert rows(folder / "whole") == rows(folder / "parts")


def test_a_batch_larger_than_a_statement_is_written_whole_and_in_order(database: Database) -> None:
    count = 2 * max(AT_ONCE) + 77
    project(database, story(orders=count), 10 * count)
    ids = [str(row[1]) for row in rows(database.path)["orders"]]
    assert [ident for ident in ids if ident.startswith("order")] == [f"order{number}" for number in range(count)]
    events = [(row[0], row[1]) for row in rows(database.path)["events"]]
    assert len(events) == len(set(events)) > 3 * count


def test_records_of_long_ago_make_the_same_rows_but_no_events(tmp_path: Path) -> None:
    log, last = story(orders=9), 20
    for name, told_after in (("all", 0), ("some", last)):
        opened = Database(tmp_path / name, "fast")
        project(opened, log, 7, told_after)
        opened.close()
    told, some = rows(tmp_path / "all"), rows(tmp_path / "some")
    kept = [row for row in told["events"] if isinstance(row[0], int) and row[0] > last]
    assert some == told | {"events": kept}
    assert 0 < len(kept) < len(told["events"])


def test_a_deleted_element_leaves_no_row(database: Database) -> None:
    project(database, story(orders=1), 100)
    assert rows(database.path)["elements"] == []
    assert len(rows(database.path)["orders"]) == 1


def test_firings_and_how_triggers_stand_are_kept(database: Database) -> None:
    project(database, story(orders=3), 2)
    found = rows(database.path)
    assert [(row[1], row[2], row[3]) for row in found["firings"]] == [
        ("firing0", "t", "rejected"),
        ("firing1", "t", "fired"),
        ("firing2", "t", "fired"),
    ]
    (standing,) = database.kept().standings
    assert (standing.name, standing.last_due, standing.last_firing) == ("t", START, "firing2")


def test_a_file_of_another_version_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "projection.sqlite"
    project(first := Database(path, "fast"), story(orders=2), 3)
    first.close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE meta SET value = 99 WHERE key = 'schema'")
    connection.commit()
    connection.close()
    again = Database(path, "fast")
    assert again.kept().seq == 0
    again.close()


def test_a_file_that_is_no_database_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "projection.sqlite"
    path.write_bytes(b"these are not the bytes of a database" * 1000)
    opened = Database(path, "fast")
    assert opened.kept().seq == 0
    opened.close()


def test_a_batch_that_cannot_be_written_leaves_nothing_behind(database: Database) -> None:
    log = story(orders=3)
    project(database, log, len(log))
    before = rows(database.path)
    database._connection.execute("PRAGMA query_only = ON")
    batch = Batch()
    batch.add(State().apply(99, START, "muster.log.nonsense", b""))
    with pytest.raises(UnavailableError, match="cannot be written"):
        database.write(batch)
    database._connection.execute("PRAGMA query_only = OFF")
    assert rows(database.path) == before
    assert database.kept().seq == len(log)


def test_two_brokers_cannot_write_one_file(database: Database) -> None:
    with pytest.raises(UnavailableError, match="another broker uses"):
        Database(database.path, "fast")
    assert database.kept().seq == 0
