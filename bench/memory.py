"""G7: what an agent and a broker hold in memory (resident set size, MB of 10^6 bytes)."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Final

from bench import floors
from bench.measure import Finding, Goal
from bench.mesh import ELEMENTS, POLL, Mesh, mesh
from bench.parts.creator import Creator
from bench.parts.feeder import Feeder
from bench.parts.publisher import Publisher
from bench.plan import Plan
from bench.process import part, process
from bench.throughput import created

WORK: Final = 10_000
MOST: Final = 58.0
STEPS: Final = (10_000, 100_000, 1_000_000)


async def bare_worker(folder: Path, count: int) -> tuple[float, float]:
    """A nats-py worker at its start, and after so much work."""
    async with floors.server(folder, "fast") as url:
        await floors.make_streams(url)
        async with process("bare", ["-m", "bench.parts.bare", url], folder) as worker:
            await worker.facts()
            begin = worker.memory()
            async with part("publisher", Publisher(url=url, count=count, width=floors.WIDTH), folder) as publisher:
                await publisher.go()
                left = count
                while left > 0:
                    left -= int((await worker.facts())["count"])
            return begin, worker.memory()


async def agent(folder: Path, count: int) -> tuple[float, float]:
    """An agent once it is online, and after so many orders."""
    async with mesh(folder, agents=ELEMENTS[:1]) as subject:
        begin = subject.agents[ELEMENTS[0]].memory()
        await created(subject, Creator(url=subject.url, count=count, width=floors.WIDTH, elements=ELEMENTS[:1]))
        await subject.recorded(count)
        return begin, subject.agents[ELEMENTS[0]].memory()


async def agents(plan: Plan) -> list[Finding]:
    """Agents beside bare workers."""
    count = plan.size(WORK)
    bare: list[tuple[float, float]] = []
    ours: list[tuple[float, float]] = []
    for run in range(plan.runs):
        with tempfile.TemporaryDirectory() as name:
            bare.append(await bare_worker(Path(name), count))
        with tempfile.TemporaryDirectory() as name:
            ours.append(await agent(Path(name), count))
        plan.say("G7", f"run {run + 1}: bare worker {bare[-1][1]:.1f} MB, agent {ours[-1][1]:.1f} MB")
    found = []
    for place, when in enumerate(("once online", f"after {count:,} orders")):
        floor, agent_ = [one[place] for one in bare], [one[place] for one in ours]
        what, against = f"agent {when}", "bare nats-py worker"
        goal = Goal(most=1.6)
        found.append(Finding(gate="G7", what=what, unit="MB", ours=agent_, floor=floor, against=against, goal=goal))
    found.append(Finding(gate="G7", what=f"{what}, at most", unit="MB", ours=agent_, goal=Goal(most=MOST)))
    return found


async def fed(subject: Mesh, orders: int) -> None:
    """Write so many ended orders to the log, and wait until the broker has them on the record."""
    settings = Feeder(url=subject.url, orders=orders, elements=ELEMENTS)
    async with part("feeder", settings, subject.folder) as feeder:
        await feeder.go()
        last = int((await feeder.facts(3600))["last"])
    async with asyncio.timeout(900):
        while (info := await subject.get("/api/v1/info"))["sequence"] < last or info["lag"]:
            await asyncio.sleep(10 * POLL)


async def brokers(plan: Plan) -> list[Finding]:
    """One broker, while ever more orders have ended."""
    sizes: list[float] = []
    steps = STEPS[:2] if plan.quick else STEPS
    with tempfile.TemporaryDirectory() as name:
        async with mesh(Path(name), agents=()) as subject:
            for orders in steps:
                await fed(subject, orders - subject.counts()[0])
                sizes.append(subject.broker.memory())
                plan.say("G7", f"broker with {orders:,} ended orders: {sizes[-1]:.1f} MB")
                if subject.counts() != (orders, 0):
                    raise RuntimeError(f"the record has {subject.counts()} instead of {orders} ended orders")
    found = [
        Finding(gate="G7", what=f"broker, {orders:,} ended orders", unit="MB", ours=[size])
        for orders, size in zip(steps, sizes, strict=True)
    ]
    what = f"broker, {steps[-1]:,} beside {steps[0]:,} ended orders"
    against = f"{steps[0]:,} ended orders"
    goal = Goal(most=1.2)
    found.append(Finding(gate="G7", what=what, unit="MB", ours=sizes[-1:], floor=sizes[:1], against=against, goal=goal))
    return found


async def both(plan: Plan) -> list[Finding]:
    """G7."""
    return [*await agents(plan), *await brokers(plan)]
