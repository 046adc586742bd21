"""After a run: is every order on the record once, ended well, and started once?

Asked of the record (SQLite) and of the log itself, where a start is a `claimed`, or a `created` that names an agent.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import nats
from nats.js.api import AckPolicy, ConsumerConfig

from bench.measure import Finding, Goal
from muster.mesh import names
from muster.mesh.jetstream import Puller

WINDOW = 2000


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """What was found."""

    sent: int
    recorded: int
    """Orders on the record."""
    finished: int
    first_attempts: int
    """Orders that ended in their first attempt."""
    starts: int
    """`claimed`, or `created` with an agent, on the log."""
    most_starts: int
    """The most that one order has."""
    ends: int
    """`done` on the log."""
    created: int
    """`created` on the log."""

    def lost(self) -> int:
        """Orders sent that did not end on the record."""
        return self.sent - self.finished

    def beyond_one(self) -> int:
        """Starts beyond one an order."""
        return max(0, self.starts - self.created, self.recorded - self.first_attempts, self.most_starts - 1)

    def differences(self) -> int:
        """By how much the counts differ from what was sent."""
        counts = (self.recorded, self.finished, self.first_attempts, self.starts, self.ends, self.created)
        return sum(abs(count - self.sent) for count in counts)


async def audit(url: str, record: Path, sent: int) -> Audit:
    """Reads the record and the whole log."""
    with closing(sqlite3.connect(f"file:{record}?mode=ro", uri=True, timeout=5)) as connection:
        recorded, finished, first = connection.execute(
            "SELECT count(*), sum(state = 'finished'), sum(json_extract(CAST(doc AS TEXT), '$.attempt') = 1)"
            " FROM orders"
        ).fetchone()
    created, claimed, done = await _log(url)
    return Audit(
        sent=sent,
        recorded=recorded,
        finished=finished or 0,
        first_attempts=first or 0,
        starts=claimed.total(),
        most_starts=max(claimed.values(), default=0),
        ends=done.total(),
        created=created.total(),
    )


class _Record(msgspec.Struct):
    type: str
    start: dict[str, Any] | None = None
    """Of a direct start, the agent that runs the order."""


_record = msgspec.json.Decoder(_Record)


async def _log(url: str) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """How often each order was created, claimed and done, as the log has it."""
    counts: dict[str, Counter[str]] = {"created": Counter(), "claimed": Counter(), "done": Counter()}
    client = await nats.connect(url, pending_size=-1)
    stream = client.jetstream()
    config = ConsumerConfig(ack_policy=AckPolicy.NONE, filter_subject="muster.log.order.>", mem_storage=True)
    consumer = await stream.add_consumer(names.LOG_STREAM, config)
    left = consumer.num_pending or 0
    async with Puller(client, names.LOG_STREAM, consumer.name, limit=WINDOW) as puller:
        while left > 0:
            batch = await puller.batch()
            left -= len(batch)
            for message in batch:
                record, order = _record.decode(message.data), message.subject.split(".")[3]
                if (found := counts.get(record.type)) is not None:
                    found[order] += 1
                if record.type == "created" and record.start is not None:
                    counts["claimed"][order] += 1
    await client.close()
    return counts["created"], counts["claimed"], counts["done"]


def findings(gate: str, what: str, audits: list[Audit]) -> list[Finding]:
    """G9 of one gate."""
    return [
        Finding(
            gate="G9",
            what=f"{gate} {what}: {title}",
            unit="orders",
            ours=[float(count(one)) for one in audits],
            goal=Goal(most=0),
            note=note,
        )
        for title, count, note in (
            ("starts beyond one an order", Audit.beyond_one, f"{sum(one.sent for one in audits):,} orders sent"),
            ("lost", Audit.lost, ""),
            ("difference between sent and on record and log", Audit.differences, ""),
        )
    ]


class Marks(msgspec.Struct, frozen=True, kw_only=True):
    """The traces that tasks left in a file of their own."""

    sent: int
    tasks: int
    """Lines in the file: tasks that ran."""
    orders: int
    """Different orders among them."""


def marks(path: Path, sent: int) -> Marks:
    """Read the file in which each task wrote its order's id."""
    lines = path.read_text().split()
    return Marks(sent=sent, tasks=len(lines), orders=len(set(lines)))


def trace_findings(gate: str, traces: list[Marks]) -> list[Finding]:
    """G9, from the tasks' own side."""
    again, missing = [float(one.tasks - one.orders) for one in traces], [float(one.sent - one.orders) for one in traces]
    note = f"{sum(one.sent for one in traces):,} orders whose task adds a line to a file"
    most = Goal(most=0)
    return [
        Finding(gate="G9", what=f"{gate} tasks that ran again", unit="tasks", ours=again, goal=most, note=note),
        Finding(gate="G9", what=f"{gate} tasks that never ran", unit="tasks", ours=missing, goal=most),
    ]
