"""G6: scripts, eight at a time on one agent, and what one costs beyond the process that it is."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Final

from bench import audit, latency
from bench.measure import Finding, Goal, percentile
from bench.mesh import ELEMENTS, Mesh, mesh
from bench.parts.creator import Creator
from bench.parts.spawner import Spawner
from bench.plan import Plan
from bench.process import part
from bench.throughput import created

WIDE: Final = 8
PAUSE: Final = (0.01, 0.03)
MARKS: Final = "marks"
"""The file that each task of the blueprint `mark` adds its order's id to."""
SCRIPT: Final[dict[str, Any]] = {"kind": "blueprint", "name": "script", "tasks": [{"name": "run", "run": ":"}]}


def marking(folder: Path) -> dict[str, Any]:
    """A blueprint whose task leaves a trace outside of all that Muster records."""
    task = {"name": "mark", "run": f'echo "$MUSTER_ORDER" >> {folder / MARKS}'}
    return {"kind": "blueprint", "name": "mark", "tasks": [task]}


async def spawn_rate(folder: Path, count: int) -> float:
    """Processes a second, eight at a time."""
    async with part("spawner", Spawner(url="", count=count, width=WIDE, fast_loop=False), folder) as spawner:
        await spawner.go()
        facts = await spawner.facts()
        return count / ((int(facts["end"]) - int(facts["begin"])) / 1e9)


async def spawn_times(folder: Path, count: int) -> list[float]:
    """Milliseconds that each process takes, one at a time with pauses."""
    async with part("spawner", Spawner(url="", count=count, pause=PAUSE, fast_loop=False), folder) as spawner:
        await spawner.go()
        return [time / 1e6 for time in (await spawner.facts())["times"]]


async def order_rate(subject: Mesh, count: int) -> float:
    """Script orders a second, from the first request to the last one on the record."""
    before = subject.counts()[0]
    creator = Creator(url=subject.url, count=count, width=WIDE * 8, elements=ELEMENTS[:1], blueprint="script")
    _, begin = await created(subject, creator)
    return count / ((await subject.recorded(before + count) - begin) / 1e9)


async def marked(subject: Mesh, count: int) -> audit.Marks:
    """Runs orders that leave a trace each, and reads the traces."""
    before = subject.counts()[0]
    creator = Creator(url=subject.url, count=count, width=WIDE * 8, elements=ELEMENTS[:1], blueprint="mark")
    await created(subject, creator)
    await subject.recorded(before + count)
    return audit.marks(subject.folder / MARKS, count)


async def scripts(plan: Plan) -> list[Finding]:
    """Both halves of G6."""
    count, calls = plan.size(3000), plan.size(300)
    bare: list[float] = []
    ours: list[float] = []
    tasks: list[float] = []
    orders: list[float] = []
    audits, traces = [], []
    for run in range(plan.runs):
        with tempfile.TemporaryDirectory() as name:
            bare.append(await spawn_rate(Path(name), count))
            manifests = [SCRIPT, marking(Path(name))]
            async with mesh(Path(name), slots=WIDE, agents=ELEMENTS[:1], manifests=manifests) as subject:
                ours.append(await order_rate(subject, count))
                audits.append(await audit.audit(subject.url, subject.record, count))
                alone = percentile(await spawn_times(Path(name), calls), 0.5)
                _, ends = await latency.of_mesh(subject, calls, "script")
                times = [(end - start) * 1e3 for start, end in list(latency.first_jobs(subject).values())[-calls:]]
                tasks.append(percentile(times, 0.5) - alone)
                orders.append(percentile(ends, 0.5) - alone)
                traces.append(await marked(subject, calls))
        plan.say(
            "G6", f"run {run + 1}: bare {bare[-1]:,.0f}/s, ours {ours[-1]:,.0f}/s; idle +{tasks[-1]:.2f} ms a task"
        )
    what = f"script orders (`bash -c :`), one agent, `slots: {WIDE}`"
    against = f"asyncio spawn, {WIDE} wide"
    goal = Goal(least=0.7)
    return [
        Finding(gate="G6", what=what, unit="orders/s", ours=ours, floor=bare, against=against, goal=goal),
        Finding(
            gate="G6",
            what="idle, script task beyond the bare process, p50",
            unit="ms",
            ours=tasks,
            goal=Goal(most=3),
            note="from the job's start to its end, less what asyncio takes to start `bash -c :` and to see its end",
        ),
        Finding(
            gate="G6",
            what="idle, whole script order beyond the bare process, p50",
            unit="ms",
            ours=orders,
            note="from the request to the end on the record, seen by the caller, less the same",
        ),
        *audit.findings("G6", "scripts", audits),
        *audit.trace_findings("G6", traces),
    ]
