"""The connection that writes the tables, and those that read: what they do for, and to, each other."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from muster.broker.projection import database, tables
from muster.broker.projection.batch import Batch
from muster.broker.projection.readers import READERS, Readers
from muster.broker.projection.writer import Writer
from muster.broker.state.step import Stamp
from muster.mesh.errors import UnavailableError
from muster.mesh.model import Order, OrderState
from tests.kit.waiting import deadline, eventually

START = datetime(2026, 1, 1, tzinfo=UTC)
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


def batch(seq: int, events: int = 1) -> Batch:
    """A batch that reaches `seq`, with one order and some events."""
    made = Batch()
    made.stamp = Stamp(seq, START, "")
    made.orders[f"o{seq}"] = Order(
        id=f"o{seq}",
        blueprint="b",
        version=1,
        digest="d",
        state=OrderState.QUEUED,
        created_by="test",
        created_at=START,
    )
    made.event_rows = [(seq, place, "order.created", "o", b"{}") for place in range(events)]
    return made


def reached(path: Path) -> tuple[int, int]:
    """The sequence that the file has reached, and how many orders it has."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT value, (SELECT count(*) FROM orders) FROM meta WHERE key = 'seq'")
        seq, orders = found.fetchone()
    return int(seq), int(orders)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "projection.sqlite"
    database.kept(path, "fast")
    return path


@pytest_asyncio.fixture
async def writer(path: Path) -> AsyncIterator[Writer]:
    async with Writer(path, "fast") as running:
        yield running


async def test_a_batch_is_in_the_file_once_it_is_answered(writer: Writer, path: Path) -> None:
    for seq in (1, 2, 3):
        await writer.write(batch(seq))
        assert reached(path) == (seq, seq)


async def test_documents_of_many_sizes_come_back_byte_for_byte(
    writer: Writer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also rows that fill a statement, and text that JSON must escape."""
    monkeypatch.setattr(tables, "CHUNK", 1000)
    made = batch(1)
    documents = [b"%d\xc3\xa9\x00\"\\'" % size + b"x" * size for size in (0, 1, 400, 999, 1000, 5000, 3)]
    made.event_rows = [(1, place, "k", "s", document) for place, document in enumerate(documents)]
    await writer.write(made)
    async with Readers(path) as readers:
        assert await readers.rows("SELECT doc FROM events ORDER BY place", ()) == [(it,) for it in documents]


async def test_a_file_that_another_connection_has_locked_is_written_once_it_is_free(writer: Writer, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        writing = asyncio.create_task(writer.write(batch(1)))
        async with Readers(path) as readers:
            assert await readers.rows("SELECT count(*) FROM orders", ()) == [(0,)]  # whoever reads does not wait
        assert not writing.done()
        other.execute("ROLLBACK")
        async with deadline(30, "a batch that is written"):
            await writing
    assert reached(path) == (1, 1)


async def test_a_batch_that_cannot_be_written_is_refused_with_the_reason_and_may_be_written_again(
    writer: Writer, path: Path
) -> None:
    await writer.write(batch(1))
    await writer._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(UnavailableError, match=r"cannot be written: .*; nothing is lost"):
        await writer.write(batch(2))
    assert reached(path) == (1, 1)
    await writer._connection.execute("PRAGMA query_only = OFF")
    await writer.write(batch(2))
    assert reached(path) == (2, 2)


async def test_a_writer_that_stops_commits_what_it_has(path: Path) -> None:
    async with Writer(path, "fast") as writer:
        with suppress(TimeoutError):
            async with asyncio.timeout(0):
                await writer.write(batch(7, 10_000))
    assert reached(path) == (7, 1)
    assert [file.name for file in path.parent.glob("projection.sqlite*")] == [path.name]  # its log is folded in


async def test_a_file_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="cannot be written: unable to open"):
        async with Writer(tmp_path / "missing" / "projection.sqlite", "fast"):
            pass


async def test_a_long_list_holds_up_neither_the_others_nor_the_writer(writer: Writer, path: Path) -> None:
    async with Readers(path) as readers, deadline(30, "short answers beside long ones"):
        long = [asyncio.create_task(readers.rows(ENDLESS, ())) for _ in range(READERS - 1)]
        await eventually(lambda: readers._idle.qsize() == 1, what="questions under way")
        await writer.write(batch(1))
        assert await readers.rows("SELECT id FROM orders", ()) == [("o1",)]
        assert not any(task.done() for task in long)
        for task in long:
            task.cancel()
        await asyncio.wait(long)


async def test_a_question_that_nobody_waits_for_is_given_up(path: Path) -> None:
    async with Readers(path) as readers, deadline(30, "an answer after questions that were given up"):
        for _ in range(READERS):
            long = asyncio.create_task(readers.rows(ENDLESS, ()))
            await eventually(lambda: readers._idle.qsize() < READERS, what="a question under way")
            long.cancel()
            await asyncio.wait({long})
        assert await asyncio.gather(*(readers.rows("SELECT 1", ()) for _ in range(READERS))) == [[(1,)]] * READERS


async def test_a_question_that_takes_too_long_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("muster.broker.projection.readers.READ_TIMEOUT", 0.1)
    async with Readers(path) as readers:
        with pytest.raises(UnavailableError, match="no answer after"):
            await readers.rows(ENDLESS, ())


async def test_a_file_that_cannot_be_read_is_unavailable(path: Path) -> None:
    async with Readers(path) as readers:
        with pytest.raises(UnavailableError, match="cannot be read: no such table"):
            await readers.rows("SELECT 1 FROM missing", ())
    path.unlink()
    with pytest.raises(UnavailableError, match="cannot be read: unable to open"):
        async with Readers(path):
            pass


async def test_nothing_is_left_running(path: Path) -> None:
    before = threading.active_count()
    async with Writer(path, "fast") as writer, Readers(path) as readers:
        await writer.write(batch(1))
        await readers.rows("SELECT 1", ())
        assert threading.active_count() == before + 1 + READERS
    await eventually(lambda: threading.active_count() == before, what="the end of their threads")
