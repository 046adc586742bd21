"""G13, G14: adding schedules to a clock, and how late a thousand of them are that are due at once."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import nats
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig, StreamConfig

from bench import floors, latency
from bench.measure import Finding, Goal, percentile
from bench.mesh import ELEMENTS, Mesh, mesh
from bench.parts.catcher import Catcher
from bench.parts.clock_adder import Adder
from bench.plan import Plan
from bench.process import part
from muster.mesh.moment import rfc3339

ADDED: Final = 100_000
DUE: Final = 1000
IDLE: Final = 10_000
AT_ONCE: Final = 500
"""Manifests in one request."""
REST: Final = 3.0
"""Seconds in which everybody knows everything, before it is due."""
SETTLED: Final = 1.0
"""Seconds after the due time from which on we look whether all have ended."""

LINES: Final = {False: "10,080 lines", True: "every line another one"}


async def added(plan: Plan) -> list[Finding]:
    """G13: triggers added a second beside APScheduler's jobs, and what each of them holds in memory."""
    found = []
    for all_different in LINES:
        ours: list[dict[str, Any]] = []
        floor: list[dict[str, Any]] = []
        settings = Adder(url="", count=plan.size(ADDED), all_different=all_different, fast_loop=False)
        for run in range(plan.runs):
            for name, sizes_and_rates in (("job_adder", floor), ("clock_adder", ours)):
                with tempfile.TemporaryDirectory() as folder:
                    async with part(name, settings, Path(folder)) as adder:
                        await adder.go()
                        sizes_and_rates.append(await adder.facts(600))
            plan.say("G13", f"run {run + 1}: APScheduler {floor[-1]['rate']:,.0f}/s, ours {ours[-1]['rate']:,.0f}/s")
        rates, sizes = ([[each[key] for each in side] for side in (ours, floor)] for key in ("rate", "size"))
        what = f"{settings.count:,} cron triggers added, {LINES[all_different]}"
        against, goal = "APScheduler's add_job", Goal(least=3)
        found += [
            Finding(gate="G13", what=what, unit="/s", ours=rates[0], floor=rates[1], against=against, goal=goal),
            Finding(gate="G13", what=f"{what}: memory", unit="bytes each", ours=sizes[0], goal=Goal(most=2000)),
            Finding(gate="G13", what=f"{what}: memory of APScheduler", unit="bytes each", ours=sizes[1]),
        ]
    return found


async def lags_of_server(folder: Path, count: int) -> list[float]:
    """Milliseconds from the due time of JetStream's own message schedules to a worker's hands."""
    async with floors.server(folder, "fast") as url:
        client = await nats.connect(url, pending_size=-1)
        stream = client.jetstream(publish_async_max_pending=floors.WIDTH)
        subjects = ["floor.schedule.*", "floor.due.*"]
        await stream.add_stream(StreamConfig("FLOOR_DUE", subjects=subjects, allow_msg_schedules=True))
        consumer = ConsumerConfig("floor", filter_subject="floor.due.*", ack_policy=AckPolicy.EXPLICIT)
        await stream.add_consumer("FLOOR_DUE", consumer.evolve(max_ack_pending=2 * count))
        due = next_second(count / 5000)
        await _schedule(client, due, count)
        settings = Catcher(url=url, count=count, due=int(due.timestamp() * 1e9))
        async with part("catcher", settings, folder) as catcher:
            await catcher.go()
            late: list[float] = (await catcher.facts())["late"]
        await client.close()
        return late


async def _schedule(client: Client, due: datetime, count: int) -> None:
    stream = client.jetstream(publish_async_max_pending=floors.WIDTH)
    for number in range(count):
        headers = {"Nats-Schedule": f"@at {rfc3339(due)}", "Nats-Schedule-Target": f"floor.due.{number}"}
        await stream.publish_async(f"floor.schedule.{number}", b"{}", headers=headers)
    await stream.publish_async_completed()


def next_second(work: float) -> datetime:
    """A whole second, after so many seconds of work and a rest."""
    return datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=int(work) + 1 + REST)


def schedule(name: str, line: str, place: int) -> dict[str, Any]:
    """A trigger's manifest."""
    target = {"on": ELEMENTS[place % len(ELEMENTS)]}
    return {
        "kind": "trigger",
        "name": name,
        "provider": "cron",
        "with": {"cron": line},
        "blueprint": "noop",
        "target": target,
    }


def idle(count: int) -> Iterator[dict[str, Any]]:
    """Triggers that are due in half a year or so."""
    month = (datetime.now(UTC).month + 5) % 12 + 1
    for number in range(count):
        yield schedule(f"idle-{number:05}", f"{number % 60} {number // 60 % 24} {number // 1440 + 1} {month} *", number)


async def lags_of_mesh(folder: Path, count: int, beside: int) -> list[float]:
    """Milliseconds from the due time to the task's start, of all triggers that are due in one second."""
    async with mesh(folder, slots=count, options=("--triggers",)) as subject:
        await _warm_up(subject)
        await _apply(subject, list(idle(beside)))
        begin = time.monotonic()
        await _apply(subject, [schedule(f"later-{number:04}", "0 0 1 1 *", number) for number in range(count)])
        due = next_second(2 * (time.monotonic() - begin))
        line = f"{due.second} {due.minute} {due.hour} {due.day} {due.month} *"
        await _apply(subject, [schedule(f"due-{number:04}", line, number) for number in range(count)])
        if datetime.now(UTC) > due - timedelta(seconds=1):
            raise RuntimeError("it took longer than expected to apply the triggers")
        await asyncio.sleep((due - datetime.now(UTC)).total_seconds() + SETTLED)  # looking takes processor time as well
        await subject.recorded(WARM + count)
        jobs = await asyncio.to_thread(latency.first_jobs, subject)
        starts = sorted(start for start, _ in jobs.values())[WARM:]
        if starts[0] < due.timestamp():
            raise RuntimeError("a task started before it was due")
        return [(start - due.timestamp()) * 1e3 for start in starts]


WARM: Final = 20


async def _warm_up(subject: Mesh) -> None:
    for number in range(WARM):
        await subject.ended(await subject.create("noop", ELEMENTS[number % len(ELEMENTS)]))


async def _apply(subject: Mesh, manifests: list[dict[str, Any]]) -> None:
    for begin in range(0, len(manifests), AT_ONCE):
        await subject.apply(*manifests[begin : begin + AT_ONCE])


async def due(plan: Plan) -> list[Finding]:
    """G14."""
    floor: list[list[float]] = []
    ours: list[list[float]] = []
    crowded: list[list[float]] = []
    for run in range(plan.runs):
        with tempfile.TemporaryDirectory() as name:
            floor.append(await lags_of_server(Path(name), DUE))
        for lags, beside in ((ours, 0), (crowded, plan.size(IDLE))):
            with tempfile.TemporaryDirectory() as name:
                lags.append(await lags_of_mesh(Path(name), DUE, beside))
        lates = [percentile(values[run], 0.99) for values in (floor, ours, crowded)]
        plan.say("G14", "run {}: server {:.0f}, ours {:.0f}, beside idle ones {:.0f} ms".format(run + 1, *lates))
    server, alone, beside_ = ([percentile(values, 0.99) for values in side] for side in (floor, ours, crowded))
    halves = [percentile(values, 0.5) for values in ours]
    what, against = f"{DUE:,} due in one second, due to task start", "JetStream's schedules, due to receipt"
    more = f"the same beside {plan.size(IDLE):,} idle schedules, p99"
    return [
        Finding(
            gate="G14", what=f"{what}, p99", unit="ms", ours=alone, floor=server, against=against, goal=Goal(most=6)
        ),
        Finding(gate="G14", what=f"{what}, p50", unit="ms", ours=halves),
        Finding(gate="G14", what=more, unit="ms", ours=beside_, floor=alone, against="none", goal=Goal(most=1.25)),
    ]
