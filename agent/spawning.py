"""The agent's side of its spawner: start a program, learn of its end, kill it."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

import muster
from muster.agent.leftovers import MARK, end_noted
from muster.agent.spawner.channel import Channel
from muster.mesh.errors import MusterError
from muster.mesh.private import inherited_umask
from muster.mesh.service import Service

log = structlog.get_logger()

PROGRAM: Final = "import sys; sys.path.append(sys.argv.pop(1)); from muster.agent.spawner.helper import main; main()"
"""Its modules are ours, but none of the libraries beside them can replace one of the standard library."""

PYTHON: Final = ("-I", "-S", "-X", "utf8", "-c", PROGRAM)
"""Nothing of the environment, of the current folder or of installed packages."""

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

RESTART_DELAY: Final = 0.1
"""Seconds before another spawner is started: one that dies at once must not keep this host busy."""

EXIT_TIMEOUT: Final = 8.0
"""Seconds for a spawner to end what runs once its channel is closed."""


KILLED: Final = "the agent's spawner was killed, and with it all that it had started"
STALLED: Final = "its agent did not respond for two thirds of a lease"


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """What to start."""

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    is_local: bool = False
    """Whether its folder is on the agent's own disk: another one may be slow, or unreachable."""
    user: tuple[int, int, tuple[int, ...]] | None = None
    """User id, group id and further groups to run as; None: the agent's."""
    cgroup: str | None = None
    """The control group to run in."""


class CutOffError(MusterError):
    """A program was killed because its agent or spawner did not respond."""


class Running:
    """A program that was started, with all of its session."""

    __slots__ = ("_spawner", "ended", "number")

    def __init__(self, spawner: Spawner, number: int) -> None:
        self.number = number
        self._spawner = spawner
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """Its exit code, negative for a signal, once nothing of its session is left; OSError: it did not start."""

    def stop(self, grace: float) -> None:
        """SIGTERM to all of the session; SIGKILL to what is left after so many seconds."""
        self._spawner.send({"do": "stop", "id": self.number, "grace": grace})

    def give_up(self) -> None:
        """The spawner does not end it: kill that, and with it all that it has started."""
        if not self.ended.done():
            log.error("spawner.hangs", program=self.number)
            self._spawner.kill()


class Spawner(Service):
    """Keeps a spawner, and starts another one if it dies."""

    def __init__(self, agent: str, ledger: int, locks: tuple[int, ...] = ()) -> None:
        super().__init__()
        self._agent = agent
        self._ledger = ledger
        self._locks = locks
        """Files that stay open as long as it lives, for what they lock is in use as long as anything runs."""
        self._channel: Channel | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._running: dict[int, Running] = {}
        self._closing: dict[str, asyncio.Future[None]] = {}
        """Control groups that are being removed."""
        self._count = 0
        self._gone = asyncio.Event()
        self._up = asyncio.Event()
        """Set while there is one that takes programs."""
        self.allowance: Callable[[], float | None] = lambda: None
        """Seconds for which what runs may continue if this agent does not respond from now on; None: no limit."""

    async def run(self) -> None:
        """Keeps a spawner until cancelled; it kills everything that runs then."""
        try:
            while True:
                self._start()
                for cgroup in self._closing:
                    self.send({"do": "close", "cgroup": cgroup})
                self.ready.set()
                await self._gone.wait()
                log.warning("spawner.died", running=len(self._running))
                self._close()
                await self._reaped()
                end_noted(self._ledger, self._agent)
                self._fail()
                await asyncio.sleep(RESTART_DELAY)
        finally:
            self._close()
            await asyncio.shield(self._reaped())
            self._fail()

    def _start(self) -> None:
        ours, its = socket.socketpair()
        files = its.fileno(), self._ledger, *self._locks
        os.ftruncate(self._ledger, 0)
        place = str(Path(muster.__file__).parents[1])
        self._process = subprocess.Popen(
            [sys.executable, *PYTHON, place, *map(str, files)],
            env={"PATH": PATH},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=files,
            start_new_session=True,
            umask=inherited_umask(),  # the tasks have it from there
        )
        its.close()
        self._gone.clear()
        self._up.set()
        self._channel = Channel(ours)
        asyncio.get_running_loop().add_reader(ours, self._listen)

    def _close(self) -> None:
        self._up.clear()
        if self._channel is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._channel.fileno())
            loop.remove_writer(self._channel.fileno())
            self._channel.close()
            self._channel = None

    async def _reaped(self) -> None:
        """It ends by itself once the line is closed; one that hangs is killed."""
        if self._process is not None:
            try:
                await asyncio.to_thread(self._process.wait, EXIT_TIMEOUT)
            except subprocess.TimeoutExpired:
                log.error("spawner.killed")  # noqa: TRY400 - no traceback
                self.kill()
                await asyncio.to_thread(self._process.wait)
                end_noted(self._ledger, self._agent)

    def _fail(self) -> None:
        running, self._running = list(self._running.values()), {}
        for each in running:
            if not each.ended.done():
                each.ended.set_exception(CutOffError(KILLED))

    async def start(self, program: Program, output: int) -> Running:
        """Starts a program with an open file for its output, as soon as there is a spawner."""
        await self._up.wait()
        self._count += 1
        running = Running(self, self._count)
        self._running[running.number] = running
        self.send(
            {
                "do": "start",
                "id": running.number,
                "seconds": self.allowance(),
                "argv": list(program.argv),
                "env": {**program.env, MARK: self._agent},
                "cwd": str(program.cwd),
                "is_local": program.is_local,
                "user": program.user,
                "cgroup": program.cgroup,
            },
            output,
        )
        return running

    async def close(self, cgroup: Path) -> None:
        """Kills all that is in a control group, and removes it; what the kernel does not end is left after a while."""
        closed = self._closing[str(cgroup)] = asyncio.get_running_loop().create_future()
        self.send({"do": "close", "cgroup": str(cgroup)})
        await asyncio.wait((closed,), timeout=EXIT_TIMEOUT)
        if not closed.done():
            log.error("cgroup.left", cgroup=str(cgroup))
        self._closing.pop(str(cgroup), None)

    def beat(self) -> None:
        """Says that we move."""
        if self._running:
            self.send({"do": "beat", "seconds": self.allowance()})

    def send(self, message: dict[str, Any], file: int | None = None) -> None:
        """Sends a message to the spawner; if it is gone, another one is started."""
        if self._channel is None:
            self._gone.set()
            return
        try:
            if self._channel.send(message, file):
                asyncio.get_running_loop().add_writer(self._channel.fileno(), self._flush)
        except OSError:
            self._gone.set()

    def _flush(self) -> None:
        if self._channel is None:
            return
        try:
            if not self._channel.flush():
                asyncio.get_running_loop().remove_writer(self._channel.fileno())
        except OSError:
            self._gone.set()

    def _listen(self) -> None:
        if self._channel is None:
            return
        try:
            for message in self._channel.receive():
                self._heard(*message)
        except EOFError:
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
            self._gone.set()

    def _heard(self, verb: str, number: int | str, code: int, why: str = "") -> None:
        if isinstance(number, str):
            if (closed := self._closing.get(number)) is not None and not closed.done():
                closed.set_result(None)
            return
        running = self._running.pop(number, None)
        if running is None or running.ended.done():
            return
        if verb == "failed":
            running.ended.set_exception(OSError(code, os.strerror(code) if code else "it cannot be started"))
            return
        if why:
            log.warning("program.killed", why=STALLED)
            running.ended.set_exception(CutOffError(STALLED))
            return
        running.ended.set_result(code)

    def kill(self) -> None:
        """Ends it at once; what it has started ends with that."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
