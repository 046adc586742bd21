"""G4, G5: what one order takes on an idle mesh, to the start of its task and to its end on the record."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from bench import floors
from bench.measure import Finding, Goal, percentile
from bench.mesh import ELEMENTS, Mesh, mesh
from bench.parts.caller import Caller, Sample
from bench.parts.knocker import Knocker
from bench.plan import Plan
from bench.process import Process, part

ENDED: Final = "muster.event.order.finished.>"
"""Events are published once their rows are committed."""


START_LIMITS: Final = {0.5: 2.5, 0.99: 3.0}
END_LIMITS: Final = {0.5: 1.5, 0.99: 3.0}
"""By percentile, how many times the floor."""


async def asked(name: str, settings: Caller | Knocker, folder: Path) -> list[Sample]:
    """One after the other, by a part of that name; the first ones are for warming up."""
    samples: list[Sample] = []
    async with part(name, settings, folder) as caller:
        await caller.go()
        while len(samples) < settings.count:
            samples += msgspec.convert((await caller.facts(600))["samples"], list[Sample])
    return samples[settings.count // 10 :]


async def starts_of_floor(folder: Path, count: int) -> list[float]:
    """Milliseconds from the publish to the message in a worker's hands."""
    async with floors.floor(folder, "fast", record=False, idle=True) as floor:
        received: dict[str, int] = {}
        listening = [asyncio.create_task(_stamps(worker, received)) for worker in floor.workers]
        samples = await asked("caller", Caller(url=floor.url, count=count, subject="floor.work"), folder)
        async with asyncio.timeout(10):
            while len(received) < count:
                await asyncio.sleep(0.05)
        for task in listening:
            task.cancel()
        return [(received[sample.id] - sample.begin) / 1e6 for sample in samples]


async def _stamps(worker: Process, received: dict[str, int]) -> None:
    while True:
        received |= (await worker.facts()).get("received", {})


async def ends_of_floor(folder: Path, count: int) -> list[float]:
    """Milliseconds from the publish to the recorder's note that it is committed."""
    async with floors.floor(folder, "fast", record=True, idle=True) as floor:
        settings = Caller(url=floor.url, count=count, subject="floor.work", ends="floor.committed.>")
        return list(durations(await asked("caller", settings, folder)))


def durations(samples: Iterable[Sample]) -> Iterable[float]:
    """Milliseconds each."""
    return ((sample.end - sample.begin) / 1e6 for sample in samples)


async def of_mesh(subject: Mesh, count: int, blueprint: str = "noop") -> tuple[list[float], list[float]]:
    """Milliseconds from the request to the task's start, and to the event that the end is on the record."""
    settings = Caller(url=subject.url, count=count, blueprint=blueprint, element=ELEMENTS[0], ends=ENDED)
    samples = await asked("caller", settings, subject.folder)
    jobs = first_jobs(subject)
    return [(jobs[sample.id][0] - sample.begin / 1e9) * 1e3 for sample in samples], list(durations(samples))


def first_jobs(subject: Mesh) -> dict[str, tuple[float, float]]:
    """When each order's first job started and ended, by its agent's clock, which is ours."""
    query = "SELECT id, json_extract(CAST(doc AS TEXT), '$.jobs[0].started_at', '$.jobs[0].finished_at') FROM orders"
    with closing(sqlite3.connect(f"file:{subject.record}?mode=ro", uri=True, timeout=5)) as connection:
        rows = connection.execute(query).fetchall()
    found: dict[str, tuple[float, float]] = {}
    for ident, times in rows:
        begin, end = (datetime.fromisoformat(time).timestamp() for time in msgspec.json.decode(times))
        found[ident] = begin, end
    return found


async def both(plan: Plan) -> list[Finding]:
    """G4 and G5 of the same orders, beside the floors."""
    count = 80 if plan.quick else 400
    starts: tuple[list[list[float]], list[list[float]]] = ([], [])
    ends: tuple[list[list[float]], list[list[float]]] = ([], [])
    for run in range(plan.runs):
        with tempfile.TemporaryDirectory() as name:
            starts[0].append(await starts_of_floor(Path(name), count))
        with tempfile.TemporaryDirectory() as name:
            ends[0].append(await ends_of_floor(Path(name), count))
        with tempfile.TemporaryDirectory() as name:
            async with mesh(Path(name)) as subject:
                start, end = await of_mesh(subject, count)
        starts[1].append(start)
        ends[1].append(end)
        middles = [percentile(values[run], 0.5) for values in (*starts, *ends)]
        plan.say("G4, G5", "run {}: start {:.2f}, ours {:.2f}; end {:.2f}, ours {:.2f} ms".format(run + 1, *middles))
    return [
        *compared("G4", "idle, request to task start", starts, "raw: publish to receipt", START_LIMITS),
        *compared("G5", "idle, request to done on the record, seen by the caller", ends, "raw+record", END_LIMITS),
    ]


def compared(
    gate: str,
    what: str,
    runs: tuple[list[list[float]], list[list[float]]],
    against: str,
    limits: Mapping[float, float],
) -> Iterable[Finding]:
    """The floor's runs and ours, by percentile; `limits` says which, and how many times the floor is allowed."""
    for share, most in limits.items():
        floor, ours = ([percentile(values, share) for values in side] for side in runs)
        yield Finding(
            gate=gate,
            what=f"{what}, p{share * 100:g}",
            unit="ms",
            ours=ours,
            floor=floor,
            against=against,
            goal=Goal(most=most),
        )
