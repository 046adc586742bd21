"""G1, G2, G3: orders a second, from the first request to the last one on the record, and accepted."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

from bench import audit, floors
from bench.measure import Finding, Goal
from bench.mesh import ELEMENTS, Mesh, mesh
from bench.parts.creator import Creator
from bench.plan import Plan
from bench.process import part
from muster.mesh.settings import Durability

GOALS: Final[dict[Durability, Goal]] = {"fast": Goal(least=0.5, better=0.75), "safe": Goal(least=0.8)}


async def created(subject: Mesh, settings: Creator) -> tuple[float, int]:
    """Make orders: those accepted a second, and when that started."""
    async with part("creator", settings, subject.folder) as creator:
        await creator.go()
        facts = await creator.facts()
    if facts["accepted"] != settings.count:
        raise RuntimeError(f"{facts['accepted']} of {settings.count} orders were accepted: {facts['refused']}")
    return settings.count / ((facts["end"] - facts["begin"]) / 1e9), int(facts["begin"])


async def recorded(plan: Plan, gate: str, durability: Durability) -> list[Finding]:
    """No-op orders a second, created to full record, beside raw and raw+record."""
    count = plan.size(20_000 if durability == "fast" else 5_000)
    raw, record, ours, audits, times = [], [], [], [], []
    for run in range(plan.runs):
        with tempfile.TemporaryDirectory() as name:
            async with floors.floor(Path(name), durability, record=False) as floor:
                raw.append(await floor.rate(count))
        with tempfile.TemporaryDirectory() as name:
            async with floors.floor(Path(name), durability, record=True) as floor:
                record.append(await floor.rate(count))
        with tempfile.TemporaryDirectory() as name:
            async with mesh(Path(name), durability) as subject:
                settings = Creator(url=subject.url, count=count, width=floors.WIDTH, elements=ELEMENTS)
                used = subject.seconds()
                _, begin = await created(subject, settings)
                ours.append(count / ((await subject.recorded(count) - begin) / 1e9))
                times.append((subject.seconds() - used) / count * 1e6)
                audits.append(await audit.audit(subject.url, subject.record, count))
        plan.say(gate, f"run {run + 1}: raw {raw[-1]:,.0f}/s, raw+record {record[-1]:,.0f}/s, ours {ours[-1]:,.0f}/s")
    what, goal = f"no-op orders, created to full record, {durability}", GOALS[durability]
    return [
        Finding(gate=gate, what=what, unit="orders/s", ours=ours, floor=record, against="raw+record", goal=goal),
        Finding(gate=gate, what=f"{what}, beside raw", unit="orders/s", ours=ours, floor=raw, against="raw"),
        Finding(gate=gate, what="processor time of broker and agents", unit="us an order", ours=times),
        *audit.findings(gate, durability, audits),
    ]


async def fast(plan: Plan) -> list[Finding]:
    """G1."""
    return await recorded(plan, "G1", "fast")


async def safe(plan: Plan) -> list[Finding]:
    """G2: both sides sync to the disk before they say so."""
    return await recorded(plan, "G2", "safe")


async def accepted(plan: Plan) -> list[Finding]:
    """G3: as for the raw publishes, nobody is there to take the orders.

    It is asked for without a durability, so the default is judged; `fast` is shown beside it.
    """
    return [
        *await taken(plan, "safe", plan.size(5_000), Goal(least=0.5)),
        *await taken(plan, "fast", plan.size(20_000), Goal()),
    ]


async def taken(plan: Plan, durability: Durability, count: int, goal: Goal) -> list[Finding]:
    """Orders accepted a second, beside both ways in which nats-py publishes."""
    awaited, together, ours = [], [], []
    for run in range(plan.runs):
        with tempfile.TemporaryDirectory() as name:
            awaited.append(await floors.publish_rate(Path(name), durability, count, each_awaited=True))
        with tempfile.TemporaryDirectory() as name:
            together.append(await floors.publish_rate(Path(name), durability, count, each_awaited=False))
        with tempfile.TemporaryDirectory() as name:
            async with mesh(Path(name), durability, agents=()) as subject:
                settings = Creator(url=subject.url, count=count, width=floors.WIDTH, elements=ELEMENTS)
                rate, _ = await created(subject, settings)
                ours.append(rate)
        rates = f"publish {awaited[-1]:,.0f}/s, publish_async {together[-1]:,.0f}/s, ours {ours[-1]:,.0f}/s"
        plan.say("G3", f"run {run + 1}, {durability}: {rates}")
    what = f"orders accepted over NATS, {floors.WIDTH} in flight, {durability}"
    unit = "orders/s"
    beside = f"{what}, beside the faster way"
    return [
        Finding(gate="G3", what=what, unit=unit, ours=ours, floor=awaited, against="`await js.publish`", goal=goal),
        Finding(gate="G3", what=beside, unit=unit, ours=ours, floor=together, against="`js.publish_async`"),
    ]
