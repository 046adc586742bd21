"""The parts of `muster up`: each is started again when it ends by itself, and stopped in the right order."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

import structlog

from muster.mesh.child import dies_with_parent, end, how_it_ended, python
from muster.mesh.embedded_nats import EmbeddedNats, NatsSettings
from muster.mesh.errors import MusterError, UnavailableError
from muster.mesh.private import inherited_umask
from muster.mesh.service import Service
from muster.mesh.tokens import without_tokens

log = structlog.get_logger()

FIRST_DELAY: Final = 0.5
LONGEST_DELAY: Final = 30.0
HEALTHY: Final = 60.0
"""Seconds after which a part that ends is no longer one that ends again and again."""
START_TIMEOUT: Final = 60.0
LINE_LIMIT: Final = 1024 * 1024


class Kept(Service):
    """A part of the mesh that is restarted when it ends by itself, after a longer delay each time it ends early.

    Before it was ready for the first time, its end is the end of all: something is wrong that
    starting again does not fix.
    """

    name: str

    async def run(self) -> None:
        """Keep it running until cancelled.

        Raises:
            MusterError: it ended before it was ready for the first time.
        """
        loop = asyncio.get_running_loop()
        delay = FIRST_DELAY
        while True:
            began = loop.time()
            try:
                await self.once()
            except MusterError as error:
                if not self.ready.is_set():
                    raise
                if loop.time() - began > HEALTHY:
                    delay = FIRST_DELAY
                log.error("part.ended", name=self.name, why=str(error), again_in=delay)  # noqa: TRY400 - no traceback
                await asyncio.sleep(delay)
                delay = min(2 * delay, LONGEST_DELAY)
                log.info("part.starts_again", name=self.name)

    async def once(self) -> None:
        """Run it once, and set `ready` when it is; raises `MusterError` when it ended by itself."""
        raise NotImplementedError

    def kill(self) -> None:
        """End it now, with all that is lost by that."""
        raise NotImplementedError


class Nats(Kept):
    """The embedded server, on the same port at each start."""

    name = "nats"

    def __init__(self, settings: NatsSettings) -> None:
        super().__init__()
        self.server = EmbeddedNats(settings)
        self.server.ready = self.ready

    async def once(self) -> None:
        """Run the server."""
        await self.server.run()

    def kill(self) -> None:
        """End it now."""
        _kill(self.server.pid)


class Child(Kept):
    """One role as a process of its own: `muster <role> …`."""

    def __init__(
        self,
        role: str,
        options: Callable[[], Sequence[str]],
        is_ready: Callable[[str], Awaitable[bool]],
        *,
        env: Mapping[str, str],
        grace: float,
    ) -> None:
        super().__init__()
        self.name = role
        self._options = options
        self._is_ready = is_ready
        self._env = {**without_tokens(os.environ), **env}
        self._grace = grace
        self._process: asyncio.subprocess.Process | None = None

    async def once(self) -> None:
        """Run the process."""
        process = await asyncio.create_subprocess_exec(
            *python("muster.cli", self.name, *self._options()),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us: the agent goes first, then the broker
            preexec_fn=dies_with_parent(),
            limit=LINE_LIMIT,
            env=self._env,
            umask=inherited_umask(),
        )
        self._process = process
        try:
            await self._watch(process)
        finally:
            await end(process, self._grace)
        raise UnavailableError(f"the {self.name} {how_it_ended(process.returncode or 0)}{self._advice()}")

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        async with asyncio.TaskGroup() as group:
            lines: asyncio.Queue[str] = asyncio.Queue()
            reading = group.create_task(_read(process, lines))
            if not self.ready.is_set():
                becoming = group.create_task(self._become_ready(lines))
                await asyncio.wait({reading, becoming}, return_when=asyncio.FIRST_COMPLETED)
                becoming.cancel()
            await process.wait()

    async def _become_ready(self, lines: asyncio.Queue[str]) -> None:
        try:
            async with asyncio.timeout(START_TIMEOUT):
                while not await self._is_ready(await lines.get()):
                    pass
        except TimeoutError:
            log.error("part.not_ready", name=self.name, after=START_TIMEOUT)  # noqa: TRY400 - no traceback
            self.kill()
            return
        self.ready.set()

    def _advice(self) -> str:
        return "" if self.ready.is_set() else " before it was ready; what it said about that is above"

    def kill(self) -> None:
        """End it now."""
        if self._process is not None and self._process.returncode is None:
            _kill(self._process.pid)


async def _read(process: asyncio.subprocess.Process, lines: asyncio.Queue[str]) -> None:
    """Hand out what the process prints, so that it never waits for us; an empty line means that it started."""
    lines.put_nowait("")
    stream = process.stdout
    while stream is not None and (data := await stream.readline()):
        if lines.qsize() < 100:  # noqa: PLR2004 - a role prints one line; nobody reads more
            lines.put_nowait(data.decode(errors="replace").strip())


def _kill(pid: int | None) -> None:
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
