"""G10: a task that prints 100 MB, and how late a line is seen by a follower."""

from __future__ import annotations

import re
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import httpx

from bench.measure import Finding, Goal, percentile
from bench.mesh import ELEMENTS, Mesh, mesh
from bench.plan import Plan
from bench.process import Process, process

SIZE: Final = 100_000_000
LINE: Final = "x" * 99
EVERY: Final = 0.5
"""Seconds between two lines."""
SAMPLING: Final = 0.01
STAMP: Final = re.compile(r"\d{10}\.\d{6}")


def flood(size: int) -> dict[str, Any]:
    """A blueprint that prints so many bytes, in lines of a hundred."""
    task = {"name": "print", "run": f"(yes {LINE} || true) | head -c {size}"}
    return {"kind": "blueprint", "name": "flood", "tasks": [{**task, "timeout": "5m"}]}


def ticking(lines: int) -> dict[str, Any]:
    """A blueprint that prints what time it is, again and again."""
    run = f"for _ in $(seq {lines}); do echo $EPOCHREALTIME; sleep {EVERY}; done"
    return {"kind": "blueprint", "name": "ticking", "tasks": [{"name": "print", "run": run}]}


class Peak:
    """The most memory that a process has had, in MB."""

    def __init__(self, watched: Process) -> None:
        self._watched = watched
        self.before = self.most = watched.memory()

    def look(self) -> None:
        """Look once more."""
        self.most = max(self.most, self._watched.memory())

    @property
    def growth(self) -> float:
        """Beyond what it had before."""
        return self.most - self.before


@contextmanager
def sampled(*peaks: Peak) -> Iterator[None]:
    """Look every few milliseconds, in a thread."""
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(SAMPLING):
            for peak in peaks:
                peak.look()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


async def flooded(subject: Mesh, size: int) -> tuple[float, float]:
    """MB/s from the task's start until the end is on the record (all output is stored before), and read back.

    Raises:
        RuntimeError: not all of it could be read back.
    """
    ended = await subject.ended(await subject.create("flood", ELEMENTS[0]))
    if ended["state"] != "finished":
        raise RuntimeError(f"the task that prints has {ended['state']}: {ended['reason']}")
    begin, end = (datetime.fromisoformat(ended[name]) for name in ("started_at", "finished_at"))
    read, since = 0, time.monotonic()
    async with (
        httpx.AsyncClient(base_url=subject.api, timeout=60) as client,
        client.stream("GET", f"/api/v1/orders/{ended['id']}/output") as answer,
    ):
        answer.raise_for_status()
        async for data in answer.aiter_raw():
            read += len(data)
    if read != size:
        raise RuntimeError(f"{size} bytes were printed, {read} read back")
    return size / 1e6 / (end - begin).total_seconds(), size / 1e6 / (time.monotonic() - since)


async def lags(subject: Mesh, lines: int) -> list[float]:
    """Milliseconds from a line's printing until `muster logs --follow` has printed it too."""
    order = await subject.create("ticking", ELEMENTS[0])
    argv = ["-m", "muster.cli", "logs", order, "--follow", "--api", subject.api]
    found: list[float] = []
    async with process("logs", argv, subject.folder) as logs:
        while len(found) < lines:
            line = await logs.line()
            if stamp := STAMP.search(line.decode()):
                found.append((time.time() - float(stamp[0])) * 1e3)
    return found[4:]  # the first ones were printed before anybody followed


async def output(plan: Plan) -> list[Finding]:
    """G10."""
    size, lines = plan.size(SIZE), 10 if plan.quick else 30
    written, read, agents, brokers, middles, longest = ([] for _ in range(6))
    for run in range(plan.runs):
        with tempfile.TemporaryDirectory() as name:
            async with mesh(Path(name), agents=ELEMENTS[:1], manifests=[flood(size), ticking(lines)]) as subject:
                late = await lags(subject, lines)
                agent, broker = Peak(subject.agents[ELEMENTS[0]]), Peak(subject.broker)
                with sampled(agent, broker):
                    rates = await flooded(subject, size)
        written.append(rates[0])
        read.append(rates[1])
        agents.append(agent.growth)
        brokers.append(broker.growth)
        middles.append(percentile(late, 0.5))
        longest.append(max(late))
        growth = f"agent +{agents[-1]:.1f}, broker +{brokers[-1]:.1f} MB"
        plan.say("G10", f"run {run + 1}: {written[-1]:.0f} MB/s, {growth}; lines late {middles[-1]:.0f} ms")
    what = f"{size / 1e6:g} MB of output"
    most = Goal(most=32)
    return [
        Finding(
            gate="G10", what=f"{what}, task start to end on record", unit="MB/s", ours=written, goal=Goal(least=50)
        ),
        Finding(gate="G10", what=f"{what}, read back over HTTP, every byte", unit="MB/s", ours=read),
        Finding(gate="G10", what=f"{what}, growth of the agent", unit="MB", ours=agents, goal=most),
        Finding(gate="G10", what=f"{what}, growth of the broker, also while read", unit="MB", ours=brokers, goal=most),
        Finding(gate="G10", what="`logs --follow`, a line late, p50", unit="ms", ours=middles),
        Finding(gate="G10", what="`logs --follow`, a line late, longest", unit="ms", ours=longest, goal=Goal(most=200)),
    ]
