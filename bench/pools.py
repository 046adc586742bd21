"""G15: a thousand pooled runners: who gets how many orders, and what they cost while there are none."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Final

import psutil

from bench import audit, floors
from bench.measure import Finding, Goal
from bench.mesh import NOOP as NOOP_BLUEPRINT
from bench.mesh import Mesh, broker, machine
from bench.parts.creator import Creator
from bench.parts.crowd import Crowd
from bench.plan import Plan
from bench.process import Process, part
from bench.throughput import created

CROWDS: Final = 4
"""Processes that the runners are spread over."""
RUNNERS: Final = 1000
WHERE: Final = 'element.labels.role == "runner"'
TRIGGER: Final = {
    "kind": "trigger",
    "name": "trigger",
    "provider": "webhook",
    "with": {"auth": "none"},
    "blueprint": "noop",
    "target": {"where": WHERE, "queue": True},
}
"""As long as it is there, so is the queue; one that comes with its first order is claimed by whoever hears first."""
REST: Final = 20.0
"""Seconds of doing nothing, for the idle cost."""
CALM: Final = 10.0
"""Seconds after the last join before anything is measured."""


async def pools(plan: Plan) -> list[Finding]:
    """Orders of an anonymous pool, claimed by whichever of its members is free."""
    runners, orders = plan.size(RUNNERS), plan.size(10 * RUNNERS)
    server, brokers, rates, least, most, audits = [], [], [], [], [], []
    for run in range(plan.runs):
        with tempfile.TemporaryDirectory() as name:
            async with AsyncExitStack() as stack:
                subject = await _gathered(stack, Path(name), runners)
                await asyncio.sleep(CALM)
                nats, own = await _rested(subject)
                server.append(nats)
                brokers.append(own)
                settings = Creator(url=subject.url, count=orders, width=floors.WIDTH, where=WHERE)
                _, begin = await created(subject, settings)
                rates.append(orders / ((await subject.recorded(orders) - begin) / 1e9))
                shares = _shares(subject.record, runners)
                least.append(min(shares) / (orders / runners))
                most.append(max(shares) / (orders / runners))
                audits.append(await audit.audit(subject.url, subject.record, orders))
        plan.say("G15", f"run {run + 1}: idle server {nats:.1f} %, least {least[-1]:.2f}, most {most[-1]:.2f}")
    among = f"{orders:,} orders among {runners:,} runners"
    mean, idle = "the mean runner's share", f"{runners:,} idle runners"
    return [
        Finding(gate="G15", what=f"{among}", unit="orders/s", ours=rates),
        Finding(gate="G15", what=f"{among}: the least of {mean}", unit="x", ours=least, goal=Goal(least=0.8)),
        Finding(gate="G15", what=f"{among}: the most of {mean}", unit="x", ours=most, goal=Goal(most=1.2)),
        Finding(gate="G15", what=f"server, {idle}", unit="% of a core", ours=server, goal=Goal(most=10)),
        Finding(gate="G15", what=f"broker, {idle}", unit="% of a core", ours=brokers),
        *audit.findings("G15", "pooled", audits),
    ]


async def _gathered(stack: AsyncExitStack, folder: Path, runners: int) -> Mesh:
    """A mesh with so many runners online, each with one slot."""
    subject = Mesh(await stack.enter_async_context(floors.server(folder, "fast")), folder, "fast")
    await stack.enter_async_context(broker(subject))
    names = [f"runner-{number:04}" for number in range(runners)]
    await subject.apply(
        NOOP_BLUEPRINT, TRIGGER, *({**machine(name, 1), "labels": {"role": "runner"}} for name in names)
    )
    crowds: list[Process] = []
    for place in range(CROWDS):
        settings = Crowd(url=subject.url, elements=tuple(names[place::CROWDS]), folder=str(folder / f"crowd-{place}"))
        crowds.append(await stack.enter_async_context(part("crowd", settings, folder)))
    for crowd in crowds:
        await crowd.go()
        await crowd.facts()
    return subject


async def _rested(subject: Mesh) -> tuple[float, float]:
    """Processor time that server and broker use while nothing happens, in percent of a core."""
    server = _server_of(subject)
    before = server.cpu_times(), subject.broker.seconds()
    await asyncio.sleep(REST)
    times = server.cpu_times()
    used = times.user + times.system - before[0].user - before[0].system
    return 100 * used / REST, 100 * (subject.broker.seconds() - before[1]) / REST


def _server_of(subject: Mesh) -> psutil.Process:
    """The nats-server that listens where the mesh's URL says."""
    port = int(subject.url.rpartition(":")[2])
    for child in psutil.Process().children(recursive=True):
        listens = {connection.laddr.port for connection in child.net_connections() if connection.status == "LISTEN"}
        if "nats-server" in child.name() and port in listens:
            return child
    raise RuntimeError(f"no nats-server listens on {port}")


def _shares(record: Path, runners: int) -> list[int]:
    """How many orders each runner had; those that had none count too."""
    with closing(sqlite3.connect(f"file:{record}?mode=ro", uri=True, timeout=5)) as connection:
        counts = [count for (count,) in connection.execute("SELECT count(*) FROM orders GROUP BY element")]
    return counts + [0] * (runners - len(counts))
