"""Real `muster …` processes: started in a group of their own, read line by line, killed as a tree."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Self

import msgspec
import psutil

from muster.mesh.child import dies_with_parent
from tests.kit.forkserver import LINE_LIMIT, MUSTER, ROOT, Forked, can_fork
from tests.kit.waiting import deadline

__all__ = ["MUSTER", "ROOT", "Program", "Ran", "clean_env", "is_alive", "muster", "running"]

ROLES = frozenset({"up", "server", "broker", "agent", "triggers", "demo"})
"""Commands that run for long; their processes are started, not forked."""


class Ran(msgspec.Struct, frozen=True, kw_only=True):
    """How a command went."""

    code: int
    stdout: str
    stderr: str


def clean_env(home: Path, **more: str) -> dict[str, str]:
    """An environment without this user's settings: the folders lie under `home`, no colour, 80 columns."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MUSTER_", "XDG_")) or "TEST" in key}
    return kept | {
        "HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "80",
        "NO_COLOR": "1",
        "TERM": "dumb",
        **more,
    }


def is_alive(pid: int) -> bool:
    """Whether a process runs; an orphan may stay a zombie for as long as nobody reaps it."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def muster(
    *args: str, env: Mapping[str, str] | None = None, stdin: bytes = b"", within: float = 30.0, cwd: Path = ROOT
) -> Ran:
    """Run `muster ARGS…` to its end."""
    async with Program.start([*MUSTER, *args], env=env, cwd=cwd) as program:
        program.feed(stdin)
        code = await program.ended(within)
        return Ran(code=code, stdout=program.stdout, stderr=program.stderr)


@asynccontextmanager
async def running(*args: str, env: Mapping[str, str] | None = None, cwd: Path = ROOT) -> AsyncIterator[Program]:
    """`muster ARGS…` in the background; its whole tree is killed at the end, if it is still there."""
    async with Program.start([*MUSTER, *args], env=env, cwd=cwd) as program:
        yield program


class Program:
    """A process whose output is read as it comes."""

    def __init__(self, process: asyncio.subprocess.Process | Forked) -> None:
        self.process = process
        self.lines: dict[str, list[str]] = {"out": [], "err": []}
        self._changed = asyncio.Condition()
        self._closed = 0
        self._readers: list[asyncio.Task[None]] = []

    @classmethod
    @asynccontextmanager
    async def start(
        cls, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path = ROOT
    ) -> AsyncIterator[Self]:
        """Start it; at the end, kill what is left of its tree."""
        env = dict(env) if env is not None else {**os.environ, "PYTHONPATH": str(ROOT)}
        process = await _started(argv, env, cwd)
        self = cls(process)
        self._readers = [
            asyncio.create_task(self._read(process.stdout, "out")),
            asyncio.create_task(self._read(process.stderr, "err")),
        ]
        try:
            yield self
        finally:
            await self.kill_tree()
            await asyncio.wait(self._readers, timeout=1)
            for reader in self._readers:
                reader.cancel()

    async def _read(self, stream: asyncio.StreamReader | None, name: str) -> None:
        assert stream is not None
        while line := await stream.readline():
            async with self._changed:
                self.lines[name].append(line.decode(errors="replace"))
                self._changed.notify_all()
        async with self._changed:
            self._closed += 1
            self._changed.notify_all()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def stdout(self) -> str:
        """All it printed so far."""
        return "".join(self.lines["out"])

    @property
    def stderr(self) -> str:
        """All it complained so far."""
        return "".join(self.lines["err"])

    def feed(self, data: bytes) -> None:
        """Give it `data` on standard input, and no more."""
        assert self.process.stdin is not None
        if data:
            self.process.stdin.write(data)
        self.process.stdin.close()

    async def line(self, part: str, within: float = 20.0, stream: str = "out") -> str:
        """The first line that has `part` in it, as soon as it is printed."""
        found: list[str] = []

        def seen() -> bool:
            found[:] = [line for line in self.lines[stream] if part in line]
            return bool(found) or self._closed == len(self.lines)

        async with deadline(within, f"{part!r} on {stream} of {self}"), self._changed:
            await self._changed.wait_for(seen)
        assert found, f"it ended without printing {part!r}: {self}"
        return found[0].rstrip("\n")

    async def ended(self, within: float = 20.0) -> int:
        """Its exit code, once it has ended and all its output is read."""
        async with deadline(within, f"the end of {self}"):
            code = await self.process.wait()
            await asyncio.wait(self._readers, timeout=1)  # a daemon of its may hold the pipe open
            return code

    async def stop(self, number: signal.Signals = signal.SIGTERM, within: float = 20.0) -> int:
        """Ask it to end; its exit code."""
        with suppress(ProcessLookupError):
            self.process.send_signal(number)
        return await self.ended(within)

    def tree(self) -> list[psutil.Process]:
        """The process and all its descendants, as they are now."""
        try:
            top = psutil.Process(self.pid)
            return [top, *top.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    async def kill_tree(self) -> None:
        """SIGKILL to all of it at once, as a power cut would."""
        if self.process.returncode is None:
            for process in self.tree():
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        await self.process.wait()

    def __str__(self) -> str:
        code = self.process.returncode
        state = "still runs" if code is None else f"ended with {code}"
        return f"process {self.pid}, which {state} (stdout: {self.stdout[-2000:]!r}; stderr: {self.stderr[-4000:]!r})"


async def _started(argv: Sequence[str], env: Mapping[str, str], cwd: Path) -> asyncio.subprocess.Process | Forked:
    if ROLES.isdisjoint(argv[:5]) and can_fork(argv, env):
        return await Forked.start(argv, env, cwd)
    return await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=env,
        cwd=cwd,
        start_new_session=True,
        preexec_fn=dies_with_parent(),  # should somebody kill the test run
        limit=LINE_LIMIT,
    )
