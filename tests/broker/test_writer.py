"""The process that writes the tables: what comes of it when it, or the broker, ends at any moment."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
import uvloop

from muster.broker.projection import database
from muster.broker.projection.frame import LENGTH, Frame, encode
from muster.broker.projection.writer import Writer
from muster.mesh.errors import UnavailableError
from tests.kit.processes import is_alive
from tests.kit.waiting import deadline, eventually

START = datetime(2026, 1, 1, tzinfo=UTC)
DOC = b'{"id": "o%d", "state": "queued", "blueprint": "b", "created_at": "2026-01-01T00:00:00Z"}'


def frame(seq: int, count: int = 1) -> bytes:
    """A batch that reaches `seq`, with events and one order."""
    events = [(seq, place, "order.created", "o", b"{}") for place in range(count)]
    made = Frame(seq=seq, time=START, orders=[DOC % seq], things=[], firings=[], events=events)
    return encode(made)


def reached(path: Path) -> tuple[int, int]:
    """The sequence on the record, and how many orders are."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT value, (SELECT count(*) FROM orders) FROM meta WHERE key = 'seq'")
        seq, orders = found.fetchone()
    return int(seq), int(orders)


@pytest.fixture(params=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    """`muster broker` runs on uvloop, which has pipes and processes of its own."""
    return uvloop.EventLoopPolicy() if request.param == "uvloop" else asyncio.DefaultEventLoopPolicy()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "projection.sqlite"
    database.kept(path, "fast")
    return path


@pytest_asyncio.fixture
async def writer(path: Path) -> AsyncIterator[Writer]:
    async with database.held(path) as lock, Writer(path, "fast", lock) as running:
        yield running


def process(writer: Writer) -> psutil.Process:
    assert writer.pid is not None
    return psutil.Process(writer.pid)


async def test_a_frame_is_on_the_record_once_it_is_answered(writer: Writer, path: Path) -> None:
    for seq in (1, 2, 3):
        await writer.write(frame(seq))
        assert reached(path) == (seq, seq)


async def test_a_killed_writer_is_started_anew_for_the_next_frame(writer: Writer, path: Path) -> None:
    await writer.write(frame(1))
    first = process(writer)
    first.kill()
    await writer.write(frame(2))
    assert process(writer) != first
    assert reached(path) == (2, 2)


async def test_a_writer_killed_over_a_frame_has_it_written_by_the_next_one(writer: Writer, path: Path) -> None:
    await writer.write(frame(1))
    first = process(writer)
    first.suspend()
    async with asyncio.TaskGroup() as tasks, deadline(20, "a frame that is written"):
        writing = tasks.create_task(writer.write(frame(2, 100_000)))  # far more than the pipe takes
        await asyncio.sleep(0)
        first.kill()
        await writing
    assert reached(path) == (2, 2)


@pytest.mark.parametrize("after", [0.0, 0.002, 0.01, 0.03, 0.1])
async def test_a_writer_may_be_killed_at_any_moment_of_a_transaction(writer: Writer, path: Path, after: float) -> None:
    await writer.write(frame(1))
    asyncio.get_running_loop().call_later(after, process(writer).kill)
    await writer.write(frame(2, 20_000))
    assert reached(path) == (2, 2)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (20_001,)


async def test_a_frame_that_cannot_be_written_is_told_so_and_may_be_given_again(writer: Writer, path: Path) -> None:
    await writer.write(frame(1))
    limits = psutil.RLIMIT_FSIZE, process(writer).rlimit(psutil.RLIMIT_FSIZE)
    process(writer).rlimit(psutil.RLIMIT_FSIZE, (1, limits[1][1]))  # as on a full disk
    with pytest.raises(UnavailableError, match=r"cannot be written: .*; nothing is lost"):
        await writer.write(frame(2))
    assert reached(path) == (1, 1)
    process(writer).rlimit(*limits)
    await writer.write(frame(2))
    assert reached(path) == (2, 2)


async def test_a_writer_that_always_dies_is_told_of(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with database.held(path) as lock, Writer(path, "fast", lock) as writer:
        monkeypatch.setattr("muster.broker.projection.writer.PROGRAM", "muster.no_such_program")
        process(writer).kill()
        with pytest.raises(UnavailableError, match="the process that writes it dies"):
            await writer.write(frame(1))
        monkeypatch.undo()
        await writer.write(frame(1))
    assert reached(path) == (1, 1)


async def test_a_cancelled_write_leaves_no_answer_for_the_next_one(writer: Writer, path: Path) -> None:
    await writer.write(frame(1))
    process(writer).suspend()
    asyncio.get_running_loop().call_later(0.1, process(writer).resume)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await writer.write(frame(2))
    await writer.write(frame(3))
    assert reached(path) == (3, 3)


async def test_a_stopping_broker_lets_its_writer_commit_what_it_has(path: Path) -> None:
    async with database.held(path) as lock, Writer(path, "fast", lock) as writer:
        pid = writer.pid
        with suppress(TimeoutError):
            async with asyncio.timeout(0):
                await writer.write(frame(7, 10_000))
    assert reached(path) == (7, 1)
    assert pid is not None
    assert not is_alive(pid)
    assert [file.name for file in path.parent.glob("projection.sqlite*")] == [path.name]  # the log of it is folded in


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_writer_does_not_listen_to_signals_meant_for_the_broker(
    writer: Writer, path: Path, number: signal.Signals
) -> None:
    await writer.write(frame(1))
    first = process(writer)
    first.send_signal(number)
    await writer.write(frame(2))
    assert process(writer) == first
    assert reached(path) == (2, 2)


async def test_the_file_stays_held_until_the_writer_of_a_dead_broker_is_gone(path: Path) -> None:
    """The broker's own lock is let go here; half a frame is in the pipe."""
    reading, writing = os.pipe()
    async with database.held(path) as lock:
        argv = ["-m", "muster.broker.projection.scribe", str(path), "fast"]
        left = await asyncio.create_subprocess_exec(
            sys.executable, *argv, stdin=reading, stdout=asyncio.subprocess.DEVNULL, pass_fds=(lock,)
        )
    os.close(reading)
    with pytest.raises(UnavailableError, match="another broker uses"):
        async with database.held(path, patience=0.1):
            pass
    os.write(writing, len(frame(1)).to_bytes(LENGTH, "big") + frame(1) + b"half")
    os.close(writing)
    async with database.held(path):
        await eventually(lambda: not is_alive(left.pid), what="the end of the writer")
        assert reached(path) == (1, 1)
    assert await left.wait() == 0
