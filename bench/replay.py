"""G8: how fast a broker whose record is gone has it again from the log."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Final

from bench.floors import server
from bench.measure import Finding, Goal
from bench.mesh import ELEMENTS, NOOP, Mesh, broker, machine
from bench.parts.feeder import Feeder
from bench.plan import Plan
from bench.process import part

RECORDS: Final = 1_000_000
AN_ORDER: Final = 3
"""Records that one order makes: created, claimed, done."""


async def replay(plan: Plan) -> list[Finding]:
    """G8: from the start of the process until it is ready, which it is with the log's end on the record."""
    orders = -(-(RECORDS // 10 if plan.quick else RECORDS) // AN_ORDER)
    rates, sizes, times = [], [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with server(folder, "fast") as url:
            async with broker(first := Mesh(url, folder, "fast")):
                await first.apply(NOOP, *(machine(element, 1) for element in ELEMENTS))
            async with part("feeder", Feeder(url=url, orders=orders, elements=ELEMENTS), folder) as feeder:
                await feeder.go()
                facts = await feeder.facts(3600)
            records = int(facts["last"])
            plan.say("G8", f"{records:,} records written in {(facts['end'] - facts['begin']) / 1e9:.0f} s")
            for run in range(plan.runs):
                subject = Mesh(url, folder / f"run-{run}", "fast")
                subject.folder.mkdir()
                begin = time.monotonic()
                async with broker(subject) as running:
                    rates.append(records / (time.monotonic() - begin))
                    sizes.append(running.memory())
                    times.append(running.seconds() / records * 1e6)
                    if subject.counts() != (orders, 0):
                        raise RuntimeError(f"the record has {subject.counts()} instead of {orders} ended orders")
                plan.say("G8", f"run {run + 1}: {rates[-1]:,.0f} records/s, {sizes[-1]:.0f} MB")
    what = f"replay of {records:,} records into an empty record, with the broker's start"
    return [
        Finding(gate="G8", what=what, unit="records/s", ours=rates, goal=Goal(least=20_000)),
        Finding(gate="G8", what="processor time of it", unit="us a record", ours=times),
        Finding(gate="G8", what="memory of the broker after it", unit="MB", ours=sizes),
    ]
