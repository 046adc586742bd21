"""G11, G12: how long a webhook takes to start its task on an idle pooled runner, and webhooks taken in a second."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from bench import floors, latency
from bench.measure import Finding, Goal, percentile
from bench.mesh import ELEMENTS, POLL, RECORD_TIMEOUT, Mesh, mesh
from bench.parts.deliverer import Deliverer
from bench.parts.knocker import Knocker
from bench.parts.taker import Taker
from bench.plan import Plan
from bench.process import part
from muster.mesh.settings import Durability

SECRET: Final = "the secret of the bench"
VARIABLE: Final = "BENCH_HOOK_SECRET"
CONNECTIONS: Final = 50
PATH: Final = "/hooks/bench"

TRIGGER: Final[dict[str, Any]] = {
    "kind": "trigger",
    "name": "bench",
    "provider": "webhook",
    "with": {"auth": "hmac", "secret": {"env": VARIABLE}},
    "blueprint": "noop",
    "target": {"where": 'element.kind == "machine"', "queue": True},
}


@asynccontextmanager
async def hooked(folder: Path, durability: Durability, *agents: str) -> AsyncIterator[Mesh]:
    """A mesh with a trigger service in its broker's process, as `muster up` has it, and a webhook trigger."""
    os.environ[VARIABLE] = SECRET
    try:
        async with mesh(folder, durability, agents=agents, manifests=(TRIGGER,), options=("--triggers",)) as subject:
            yield subject
    finally:
        del os.environ[VARIABLE]


async def starts(plan: Plan) -> list[Finding]:
    """G11: from before the delivery to the task's start, beside a raw publish to its receipt."""
    count = 80 if plan.quick else 400
    floor, ours, answers = [], [], []
    for run in range(plan.runs):
        with tempfile.TemporaryDirectory() as name:
            floor.append(await latency.starts_of_floor(Path(name), count))
        with tempfile.TemporaryDirectory() as name:
            async with hooked(Path(name), "fast", ELEMENTS[0]) as subject:
                settings = Knocker(url=subject.api, path=PATH, count=count, secret=SECRET)
                samples = await latency.asked("knocker", settings, subject.folder)
                jobs = await asyncio.to_thread(latency.first_jobs, subject)
        ours.append([(jobs[sample.id][0] - sample.begin / 1e9) * 1e3 for sample in samples])
        answers.append(list(latency.durations(samples)))
        middles = [percentile(values[-1], 0.5) for values in (floor, ours, answers)]
        plan.say("G11", "run {}: raw {:.2f}, ours {:.2f}, answered {:.2f} ms".format(run + 1, *middles))
    what = "idle, webhook in to task start on a pooled runner"
    middles_of_answers = [percentile(values, 0.5) for values in answers]
    return [
        *latency.compared("G11", what, (floor, ours), "raw: publish to receipt", {0.5: 4.0, 0.99: 4.0}),
        Finding(gate="G11", what="idle, webhook in to its answer, p50", unit="ms", ours=middles_of_answers),
    ]


async def delivered(settings: Deliverer, folder: Path) -> float:
    """Deliveries a second.

    Raises:
        RuntimeError: some were not accepted.
    """
    async with part("deliverer", settings, folder) as deliverer:
        await deliverer.go()
        facts = await deliverer.facts(600)
    if facts["answers"] != {"202": settings.count}:
        raise RuntimeError(f"of {settings.count} deliveries, these were the answers: {facts['answers']}")
    return float(settings.count / ((facts["end"] - facts["begin"]) / 1e9))


async def handled_by_parts(folder: Path, durability: Durability, count: int, *, each_awaited: bool) -> float:
    """Returns the floor's deliveries a second."""
    async with floors.server(folder, durability) as url:
        await floors.make_streams(url)
        parts = Taker(url=url, subject="floor.work", secret=SECRET, each_awaited=each_awaited)
        async with part("taker", parts, folder) as taker:
            await taker.go()
            address = str((await taker.facts())["url"])
            settings = Deliverer(url=address, path=PATH, count=count, connections=CONNECTIONS, secret=SECRET)
            return await delivered(settings, folder)


async def taken(plan: Plan, durability: Durability, count: int, goal: Goal) -> list[Finding]:
    """Deliveries that are on the log, beside raw parts that publish them."""
    awaited, together, ours, times = [], [], [], []
    for run in range(plan.runs):
        with tempfile.TemporaryDirectory() as name:
            awaited.append(await handled_by_parts(Path(name), durability, count, each_awaited=True))
        with tempfile.TemporaryDirectory() as name:
            together.append(await handled_by_parts(Path(name), durability, count, each_awaited=False))
        with tempfile.TemporaryDirectory() as name:
            async with hooked(Path(name), durability) as subject:
                used = subject.seconds()
                settings = Deliverer(url=subject.api, path=PATH, count=count, connections=CONNECTIONS, secret=SECRET)
                ours.append(await delivered(settings, subject.folder))
                times.append((subject.seconds() - used) / count * 1e6)
                await recorded(subject, count)
        rates = f"publish {awaited[-1]:,.0f}/s, publish_async {together[-1]:,.0f}/s, ours {ours[-1]:,.0f}/s"
        plan.say("G12", f"run {run + 1}, {durability}: {rates}")
    what = f"webhooks, {CONNECTIONS} connections, signature checked, on the log, {durability}"
    beside, unit, against = f"{what}, beside the faster way", "deliveries/s", "raw parts, `await js.publish`"
    return [
        Finding(gate="G12", what=what, unit=unit, ours=ours, floor=awaited, against=against, goal=goal),
        Finding(gate="G12", what=beside, unit=unit, ours=ours, floor=together, against="raw parts, `js.publish_async`"),
        Finding(gate="G12", what=f"processor time of the broker, {durability}", unit="us a delivery", ours=times),
    ]


async def recorded(subject: Mesh, count: int) -> None:
    """Wait until the record has an order for each delivery: what was accepted is there.

    Raises:
        TimeoutError: some are missing.
    """
    async with asyncio.timeout(RECORD_TIMEOUT):
        while subject.counts()[0] != count:
            await asyncio.sleep(POLL)


async def rates(plan: Plan) -> list[Finding]:
    """G12."""
    return [
        *await taken(plan, "fast", plan.size(20_000), Goal(least=0.3)),
        *await taken(plan, "safe", plan.size(5_000), Goal()),
    ]
