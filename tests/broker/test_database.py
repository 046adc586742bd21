"""The projection's file: what it keeps, and what becomes of it when it is not ours."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import AsyncExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muster.broker.projection import database
from muster.broker.projection.batch import Batch
from muster.broker.projection.tables import connect, write
from muster.broker.state.apply import apply
from muster.broker.state.trigger_status import TriggerStatus
from muster.broker.state.world import World
from muster.mesh import names, records
from muster.mesh.caller import Caller
from muster.mesh.errors import UnavailableError
from muster.mesh.model import OrderState
from tests.kit.manifests import applied

START = datetime(2026, 1, 1, tzinfo=UTC)
TABLES = ("orders", "things", "events", "firings")

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
def path(tmp_path: Path) -> Path:
    return made(tmp_path / "projection.sqlite")


def made(path: Path) -> Path:
    assert database.kept(path, "fast").seq == 0
    return path


def story(orders: int) -> list[tuple[str, bytes]]:
    """What the log says of some orders on one machine."""
    said: list[tuple[records.Record, str]] = [
        (applied(MANIFESTS), names.BROKER),
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
                    by=Caller(name="test"),
                    event=msgspec.Raw(b'{"body": 1}'),
                    due=START,
                    orders=planned,
                ),
                names.BROKER,
            ),
            (
                records.Created(
                    order=order, blueprint="b", version=1, digest="d", by=Caller(name="test"), element="web01"
                ),
                names.BROKER,
            ),
            (records.Claimed(order=order, attempt=1, element="web01", agent="one"), "web01"),
            (records.Done(order=order, attempt=1, state=OrderState.FINISHED), "web01"),
        ]
    said += [
        (records.CancelRequested(order=f"firing{orders - 1}.{n}", by=Caller(name="test")), names.BROKER)
        for n in range(3)
    ]
    said += [
        (records.CancelRequested(order=f"firing{orders - 2}.{n}", by=Caller(name="test")), names.BROKER)
        for n in range(3)
    ]
    said.append((records.Left(element="web01", agent="one", reason="it ends"), names.BROKER))
    said.append((records.Deleted(id="y", object_kind="machine", name="web01", by=Caller(name="test")), names.BROKER))
    return [(records.subject(record, actor), records.encode(record)) for record, actor in said]


def project(path: Path, log: list[tuple[str, bytes]], batch_size: int, reports_after: int = 0) -> None:
    state, batch = World(), Batch()
    state.reports_after = reports_after
    with closing(connect(path, "fast")) as tables:
        for seq, (subject, data) in enumerate(log, start=1):
            batch.add(apply(state, seq, START + timedelta(seconds=seq), subject, data))
            if seq % batch_size == 0 or seq == len(log):
                write(tables, batch)
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
        project(made(folder / name), log, size)
    assert rows(folder / "whole") == rows(folder / "parts")


def test_a_large_batch_is_written_whole_and_in_order(path: Path) -> None:
    count = 1100
    project(path, story(orders=count), 10 * count)
    ids = [str(row[1]) for row in rows(path)["orders"]]
    assert [ident for ident in ids if ident.startswith("order")] == [f"order{number}" for number in range(count)]
    events = [(row[0], row[1]) for row in rows(path)["events"]]
    assert len(events) == len(set(events)) > 3 * count


def test_a_batch_may_be_written_again(path: Path) -> None:
    """Whoever does not know whether it was committed gives it again."""
    state, batch, batches = World(), Batch(), []
    for seq, (subject, data) in enumerate(story(orders=9), start=1):
        batch.add(apply(state, seq, START + timedelta(seconds=seq), subject, data))
        if seq % 7 == 0:
            batches.append(batch)
            batch = Batch()
    found = []
    with closing(connect(path, "fast")) as tables:
        for it in batches:
            for _ in range(2):
                write(tables, it)
                found.append(rows(path))
    assert found[::2] == found[1::2]


def test_records_of_long_ago_make_the_same_rows_but_no_events(tmp_path: Path) -> None:
    log, last = story(orders=9), 20
    for name, reports_after in (("all", 0), ("some", last)):
        project(made(tmp_path / name), log, 7, reports_after)
    reported, some = rows(tmp_path / "all"), rows(tmp_path / "some")
    kept = [row for row in reported["events"] if isinstance(row[0], int) and row[0] > last]
    assert some == reported | {"events": kept}
    assert 0 < len(kept) < len(reported["events"])


def test_a_deleted_element_leaves_no_row(path: Path) -> None:
    project(path, story(orders=1), 100)
    assert [row[:2] for row in rows(path)["things"]] == [("object", "trigger/t"), ("trigger", "t")]
    assert len(rows(path)["orders"]) == 1


def test_firings_and_how_triggers_stand_are_kept(path: Path) -> None:
    project(path, story(orders=3), 2)
    assert [(row[1], row[2], row[3]) for row in rows(path)["firings"]] == [
        ("firing0", "t", "rejected"),
        ("firing1", "t", "fired"),
        ("firing2", "t", "fired"),
    ]
    ((_, status),) = database.kept(path, "fast").of("trigger", TriggerStatus)
    assert (status.name, status.last_due, status.last_firing) == ("t", START, "firing2")


def test_a_file_of_another_version_is_set_aside(path: Path) -> None:
    project(path, story(orders=2), 3)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE meta SET value = 99 WHERE key = 'schema'")
        connection.commit()
    assert database.kept(path, "fast").seq == 0


def test_a_file_that_is_no_database_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "projection.sqlite"
    path.write_bytes(b"these are not the bytes of a database" * 1000)
    assert database.kept(path, "fast").seq == 0


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE orders SET doc = '{}'",
        "UPDATE things SET doc = x'ff' WHERE kind = 'object'",
        "UPDATE things SET doc = 1 WHERE kind = 'trigger'",
        "UPDATE meta SET value = 'yesterday' WHERE key = 'time'",
        "DELETE FROM meta WHERE key = 'seq'",
        "DROP TABLE things",
    ],
)
def test_a_file_that_says_something_else_is_set_aside(path: Path, damage: str) -> None:
    project(path, story(orders=3)[:-8], 100)
    assert database.kept(path, "fast").orders
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(damage)
        connection.commit()
    assert database.kept(path, "fast").seq == 0


def test_a_file_with_damaged_pages_is_set_aside(path: Path) -> None:
    project(path, story(orders=50), 1000)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    assert database.kept(path, "fast").seq == 0


def test_the_time_of_the_last_record_is_kept(path: Path) -> None:
    log = story(orders=1)
    project(path, log, 3)
    assert database.kept(path, "fast").time == START + timedelta(seconds=len(log))


def test_a_batch_that_cannot_be_written_leaves_nothing_behind(path: Path) -> None:
    log = story(orders=3)
    project(path, log, len(log))
    before = rows(path)
    batch = Batch()
    batch.add(apply(World(), 99, START, "muster.log.nonsense", b""))
    with closing(connect(path, "fast")) as tables:
        tables.execute("PRAGMA query_only = ON")
        with pytest.raises(sqlite3.OperationalError):
            write(tables, batch)
        assert rows(path) == before
        assert database.kept(path, "fast").seq == len(log)
        tables.execute("PRAGMA query_only = OFF")
        write(tables, batch)
    assert database.kept(path, "fast").seq == 99


def test_events_are_kept_by_their_age_and_what_is_gone_is_on_record(path: Path) -> None:
    """Not by the number of records: a busy hour must not cost the week."""
    state, log = World(), story(orders=40)
    with closing(connect(path, "fast")) as tables:
        for seq, (subject, data) in enumerate(log, start=1):
            batch = Batch()
            batch.add(apply(state, seq, START + timedelta(minutes=seq), subject, data))
            write(tables, batch, timedelta(minutes=60))
        kept = sorted({int(str(row[0])) for row in rows(path)["events"]})
        ((edge,),) = tables.execute("SELECT value FROM meta WHERE key = 'events_after'").fetchall()
        ((marks,),) = tables.execute("SELECT count(*) FROM marks").fetchall()
    assert edge == len(log) - 60
    assert min(kept) > edge
    assert marks <= 60
    assert len(kept) > 20


def test_many_records_of_one_day_keep_their_events(path: Path) -> None:
    batch, state = Batch(), World()
    last = 500_000
    for seq, (subject, data) in enumerate(story(orders=3), start=1):
        batch.add(apply(state, seq, START, subject, data))
    with closing(connect(path, "fast")) as tables:
        write(tables, batch)
        before = rows(path)["events"]
        batch = Batch()
        batch.add(apply(state, last, START + timedelta(days=1), "muster.log.nonsense", b""))
        write(tables, batch)
    assert rows(path)["events"][: len(before)] == before


def test_events_that_a_rebuild_did_not_make_are_gone(path: Path) -> None:
    project(path, story(orders=9), 7, reports_after=20)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT value FROM meta WHERE key = 'events_after'").fetchone() == (20,)


async def test_two_brokers_cannot_write_one_file(path: Path) -> None:
    async with database.held(path):
        with pytest.raises(UnavailableError, match="another broker uses"):
            async with database.held(path, timeout=0.1):
                pass


async def test_a_file_is_waited_for_while_the_broker_before_stops(path: Path) -> None:
    first = AsyncExitStack()
    await first.enter_async_context(database.held(path))
    closing_down = asyncio.get_running_loop().create_task(first.aclose())
    async with database.held(path):
        assert closing_down.done()
