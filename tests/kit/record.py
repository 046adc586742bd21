"""What the record says, read from the log and from the tables: the invariants that no fault may break."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import nats
from nats.js.api import AckPolicy, ConsumerConfig

from muster.broker.state.apply import apply
from muster.broker.state.world import World
from muster.mesh import names, records
from muster.mesh.jetstream import moment, stamp
from muster.mesh.model import FINAL_STATES, JobState, OrderState


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """One end of one order, as the state machine took it."""

    order: str
    state: OrderState
    seq: int


class Replayed(msgspec.Struct, kw_only=True):
    """The whole log, replayed."""

    state: World
    open: set[str] = set()
    created: list[str] = []
    endings: list[Ending] = []
    retries: dict[str, int] = {}
    finished_jobs: dict[tuple[str, str], datetime] = {}
    """Order and task, and when the record says that it has finished."""


async def replay(server: str) -> Replayed:
    """Read the log from its beginning to its end, as a new broker would."""
    reported = Replayed(state=World())
    client = await nats.connect(server)
    try:
        js = client.jetstream()
        last = (await js.stream_info(names.LOG_STREAM)).state.last_seq
        config = ConsumerConfig(ack_policy=AckPolicy.NONE, mem_storage=True)
        pull = await js.pull_subscribe(names.LOG_SUBJECTS, stream=names.LOG_STREAM, config=config)
        while reported.state.seq < last:
            for message in await pull.fetch(500, timeout=5):
                seq, time = stamp(message)
                _take(reported, seq, moment(time), message.subject, message.data)
    finally:
        await client.close()
    return reported


def _take(reported: Replayed, seq: int, time: datetime, subject: str, data: bytes) -> None:
    changes = apply(reported.state, seq, time, subject, data)
    record, _ = records.decode(subject, data)
    if changes.refused is None and not isinstance(record, str):
        _note(reported, record, time)
    for firing in changes.firings.values():
        reported.created += firing.orders
    for order in changes.orders.values():
        if order.state not in FINAL_STATES:
            reported.open.add(order.id)
        elif order.id in reported.open:  # a parent ends with its last child, by the child's record
            reported.open.remove(order.id)
            reported.endings.append(Ending(order=order.id, state=order.state, seq=seq))


def _note(reported: Replayed, record: records.AnyRecord, time: datetime) -> None:
    match record:
        case records.Created():
            reported.created.append(record.order)
        case records.Retried():
            reported.retries[record.order] = reported.retries.get(record.order, 0) + 1
            kept = {job.name for job in record.snapshot.jobs}
            for place in [it for it in reported.finished_jobs if it[0] == record.order and it[1] not in kept]:
                del reported.finished_jobs[place]  # `always` runs again
        case records.Reported() | records.Suspended() | records.Done():
            for job in record.jobs:
                if job.state is JobState.FINISHED:
                    reported.finished_jobs.setdefault((record.order, job.name), time)
        case _:
            return


def check_endings(reported: Replayed, accepted: Iterable[str]) -> None:
    """Every accepted order is on the log once, and has ended once for each time that it was let go."""
    wanted = set(accepted)
    assert not wanted - set(reported.created), f"accepted, but not on the log: {wanted - set(reported.created)}"
    assert len(reported.created) == len(set(reported.created)), "an order was made twice"
    ends: dict[str, list[Ending]] = defaultdict(list)
    for ending in reported.endings:
        ends[ending.order].append(ending)
    for order in reported.created:
        expected = 1 + reported.retries.get(order, 0)
        assert len(ends[order]) == expected, f"order {order} ended {len(ends[order])} times, not {expected}"
    assert not reported.state.orders, f"still open: {list(reported.state.orders.values())}"


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line that a task wrote about itself: `WORD ORDER JOB ATTEMPT PID TIME`."""

    word: str
    order: str
    job: str
    attempt: int
    pid: int
    time: float


def read_lines(path: Path) -> list[Line]:
    """What tasks wrote, in the order of writing; a process that was killed in the middle leaves no part of a line."""
    found = []
    for text in path.read_text().splitlines() if path.exists() else ():
        word, order, job, attempt, pid, time = text.split()
        found.append(Line(word=word, order=order, job=job, attempt=int(attempt), pid=int(pid), time=float(time)))
    return found


def check_lines(lines: list[Line], reported: Replayed) -> None:
    """No order ran twice at once, and no task that the record calls finished was started again.

    Appends of a line are atomic, so the order of lines is the order of events: once another
    process writes for an order, an earlier one must never write again.
    """
    running: dict[str, int] = {}
    past: dict[str, set[int]] = defaultdict(set)
    for line in lines:
        if line.word == "start":
            past[line.order].add(running.get(line.order, 0))
            running[line.order] = line.pid
            finished = reported.finished_jobs.get((line.order, line.job))
            assert finished is None or line.time <= finished.timestamp(), f"ran again after its end: {line}"
        assert line.pid not in past[line.order], f"still running beside its successor: {line}"
        assert line.pid == running[line.order], f"wrote without a start: {line}"


def rows(projection: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Returns all rows in their own order; without the samples of time, of which each batch writes one."""
    connection = sqlite3.connect(f"{projection.absolute().as_uri()}?mode=ro", uri=True)
    try:
        tables = [
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name != 'marks'")
        ]
        return {table: connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in tables}
    finally:
        connection.close()


def difference(before: dict[str, list[tuple[Any, ...]]], after: dict[str, list[tuple[Any, ...]]]) -> list[str]:
    """What is not the same, the first few of it."""
    found = [f"tables {sorted(before)} and {sorted(after)}"] if before.keys() != after.keys() else []
    for table in before.keys() & after.keys():
        old, new = set(before[table]), set(after[table])
        found += [f"{table}, only before: {row}" for row in sorted(old - new, key=str)[:3]]
        found += [f"{table}, only after: {row}" for row in sorted(new - old, key=str)[:3]]
    return found


def remove(projection: Path) -> None:
    """Delete the file, as somebody might."""
    for suffix in ("", "-wal", "-shm"):
        projection.with_name(projection.name + suffix).unlink(missing_ok=True)
