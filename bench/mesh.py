"""The subject: a real mesh of `muster broker` and `muster agent` processes on a nats-server of its own."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any, Final

import httpx

from bench.floors import server
from bench.process import Process, process
from muster.mesh.settings import Durability

SLOTS: Final = 100
ELEMENTS: Final = ("left", "right")
"""The elements of the two agents."""
POLL: Final = 0.02
RECORD_TIMEOUT: Final = 300.0
"""Seconds for orders to be through."""

NOOP: Final[dict[str, Any]] = {"kind": "blueprint", "name": "noop", "tasks": [{"name": "nothing", "uses": "noop"}]}


class Mesh:
    """The running parts."""

    def __init__(self, url: str, folder: Path, durability: Durability) -> None:
        self.url = url
        self.folder = folder
        self.durability = durability
        self.api = ""
        self.broker: Process
        self.agents: dict[str, Process] = {}

    @property
    def record(self) -> Path:
        """The broker's SQLite file."""
        return self.folder / "broker" / "projection.sqlite"

    def seconds(self) -> float:
        """Processor time that broker and agents have used."""
        return sum(process.seconds() for process in (self.broker, *self.agents.values()))

    async def apply(self, *manifests: Mapping[str, Any]) -> None:
        """Make objects."""
        async with httpx.AsyncClient(base_url=self.api, timeout=30) as client:
            answer = await client.post("/api/v1/apply", json=list(manifests))
            answer.raise_for_status()

    async def get(self, path: str) -> dict[str, Any]:
        """An answer of the HTTP API."""
        async with httpx.AsyncClient(base_url=self.api, timeout=30) as client:
            answer = await client.get(path)
            answer.raise_for_status()
            found: dict[str, Any] = answer.json()
            return found

    async def create(self, blueprint: str, on: str) -> str:
        """Make one order; its id."""
        async with httpx.AsyncClient(base_url=self.api, timeout=30) as client:
            answer = await client.post("/api/v1/orders", json={"blueprint": blueprint, "on": on})
            answer.raise_for_status()
            return str(answer.json()["orders"][0]["id"])

    async def ended(self, order: str, timeout: float = 120.0) -> dict[str, Any]:
        """An order, once it is final."""
        async with httpx.AsyncClient(base_url=self.api, timeout=timeout + 5) as client:
            answer = await client.get(f"/api/v1/orders/{order}", params={"wait": timeout})
            answer.raise_for_status()
            found: dict[str, Any] = answer.json()
            return found

    def counts(self) -> tuple[int, int]:
        """How many orders the record has, and how many of them are open."""
        with self._reader() as connection:
            return _counts(connection)

    async def recorded(self, count: int) -> int:
        """Wait until the record has that many orders and all are final; when that was seen.

        Raises:
            TimeoutError: some never were.
        """
        with self._reader() as connection:
            async with asyncio.timeout(RECORD_TIMEOUT):
                while _counts(connection) != (count, 0):
                    await asyncio.sleep(POLL)
        return time.monotonic_ns()

    def _reader(self) -> closing[sqlite3.Connection]:
        """Opening the file costs as much as six looks."""
        return closing(sqlite3.connect(f"file:{self.record}?mode=ro", uri=True, timeout=5))


def _counts(connection: sqlite3.Connection) -> tuple[int, int]:
    total, still_open = connection.execute(
        "SELECT (SELECT coalesce(max(n), 0) FROM orders), (SELECT count(*) FROM orders WHERE finished IS NULL)"
    ).fetchone()
    return int(total), int(still_open)


@asynccontextmanager
async def broker(mesh: Mesh, *options: str) -> AsyncIterator[Process]:
    """The broker alone, ready."""
    argv = ["-m", "muster.cli", "broker", "--server", mesh.url, "--http", "127.0.0.1:0", "--data", str(mesh.folder)]
    argv += ["--durability", mesh.durability, "--log-level", "warning", "--open", *options]
    async with process("broker", argv, mesh.folder) as running:
        while not (line := await running.line(900)).startswith(b"ready broker "):
            continue
        mesh.api = line.decode().partition("api=")[2].split()[0]
        mesh.broker = running
        yield running


@asynccontextmanager
async def agent(mesh: Mesh, element: str) -> AsyncIterator[Process]:
    """An agent for one element, online."""
    argv = ["-m", "muster.cli", "agent", "--server", mesh.url, "--element", element, "--log-level", "warning"]
    argv += ["--data", str(mesh.folder / element), "--open"]
    async with process(f"agent-{element}", argv, mesh.folder) as running:
        async with asyncio.timeout(30):
            while not (await mesh.get(f"/api/v1/machines/{element}"))["online"]:
                await asyncio.sleep(POLL)
        mesh.agents[element] = running
        yield running


def machine(name: str, slots: int) -> dict[str, Any]:
    """A machine's manifest."""
    return {"kind": "machine", "name": name, "slots": slots}


@asynccontextmanager
async def mesh(
    folder: Path,
    durability: Durability = "fast",
    *,
    slots: int = SLOTS,
    agents: Sequence[str] = ELEMENTS,
    manifests: Sequence[Mapping[str, Any]] = (),
    options: Sequence[str] = (),
) -> AsyncIterator[Mesh]:
    """A fresh mesh: server, broker, agents, and the blueprint `noop`."""
    async with AsyncExitStack() as stack:
        running = Mesh(await stack.enter_async_context(server(folder, durability)), folder, durability)
        await stack.enter_async_context(broker(running, *options))
        machines = [machine(name, slots) for name in {*ELEMENTS, *agents}]
        await running.apply(NOOP, *machines, *manifests)
        for element in agents:
            await stack.enter_async_context(agent(running, element))
        yield running
