"""Child processes of a measurement: started, read, ended, and measured from outside."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import psutil

from muster.mesh.child import dies_with_parent, end

ROOT: Final = Path(__file__).resolve().parents[1]
ANSWER_TIMEOUT: Final = 120.0
"""Seconds without a sign of life after which a measurement has failed."""
GRACE: Final = 15.0


class Process:
    """A child whose standard output is read by line."""

    def __init__(self, process: asyncio.subprocess.Process, name: str, errors: Path) -> None:
        self._process = process
        self._name = name
        self._errors = errors

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def line(self, timeout: float = ANSWER_TIMEOUT) -> bytes:
        """Its next line.

        Raises:
            RuntimeError: there will be none.
            TimeoutError: there was none for so many seconds.
        """
        assert self._process.stdout is not None
        async with asyncio.timeout(timeout):
            line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._name} has ended: {self._errors.read_text()[-2000:]}")
        return line

    async def facts(self, timeout: float = ANSWER_TIMEOUT) -> dict[str, Any]:
        """Its next line, as the JSON that parts print."""
        facts: dict[str, Any] = msgspec.json.decode(await self.line(timeout))
        return facts

    async def go(self) -> None:
        """Starts the work of a part."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"go\n")
        await self._process.stdin.drain()

    async def stop(self) -> None:
        """SIGTERM, and wait until it is gone."""
        await end(self._process, GRACE)

    def memory(self) -> float:
        """Its resident memory in MB (10^6 bytes)."""
        return float(psutil.Process(self.pid).memory_info().rss) / 1e6

    def seconds(self) -> float:
        """The processor time it has used."""
        return float(sum(psutil.Process(self.pid).cpu_times()[:2]))


@asynccontextmanager
async def process(name: str, argv: Sequence[str], folder: Path) -> AsyncIterator[Process]:
    """A Python process from this tree, gone when left; its standard error goes to a file."""
    errors = folder / f"{name}.err"
    with errors.open("ab") as output:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=output,
            cwd=ROOT,
            env=clean_environment(folder),
            start_new_session=True,
            limit=2**22,
            preexec_fn=dies_with_parent(),
        )
    try:
        yield Process(child, name, errors)
    finally:
        await end(child, GRACE)


def clean_environment(folder: Path) -> dict[str, str]:
    """Ours, without what its user has set up for Muster."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MUSTER_", "XDG_"))}
    return kept | {"HOME": str(folder), "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}


@asynccontextmanager
async def part(name: str, settings: msgspec.Struct, folder: Path) -> AsyncIterator[Process]:
    """One of `bench/parts`, set up and waiting for `go`."""
    argv = ["-m", f"bench.parts.{name}", msgspec.json.encode(settings, enc_hook=str).decode()]
    async with process(name, argv, folder) as started:
        await started.facts()
        yield started
