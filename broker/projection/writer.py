"""The broker's end of the process that writes the tables: it is started, given frames, and started again if it died."""

from __future__ import annotations

import asyncio
import os
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec
import structlog

from muster.broker.projection.frame import LENGTH
from muster.mesh.child import gone, how_it_ended, python
from muster.mesh.environment import passed
from muster.mesh.errors import UnavailableError
from muster.mesh.settings import Durability

log = structlog.get_logger()

PROGRAM: Final = "muster.broker.projection.scribe"

GRACE: Final = 5.0
"""Seconds to commit the last frame when the broker stops; the log has it anyway."""

_answer = msgspec.json.Decoder(str | None).decode


class _Scribe:
    """The process, and its pipes."""

    def __init__(self, process: Process) -> None:
        if process.stdin is None or process.stdout is None:
            raise AssertionError
        self.process = process
        self.frames = process.stdin
        self.answers = process.stdout


class Writer:
    """Has frames written, one at a time, by a process that lives as long as `async with writer:`."""

    def __init__(self, path: Path, durability: Durability, lock: int) -> None:
        self._path = path
        self._durability = durability
        self._lock = lock
        self._scribe: _Scribe | None = None

    async def __aenter__(self) -> Self:
        self._scribe = await self._started()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    @property
    def pid(self) -> int | None:
        """The process that writes."""
        return self._scribe.process.pid if self._scribe is not None else None

    async def write(self, frame: bytes) -> None:
        """Return once the frame is committed.  Cancelled meanwhile, it may be or not.

        Raises:
            UnavailableError: it is not, for now; it may be given again.
        """
        answer = await self._asked(frame) or await self._asked(frame)  # a process that died: the next one takes it up
        if not answer:
            raise self._trouble("the process that writes it dies")
        if (trouble := _answer(answer)) is not None:
            raise self._trouble(trouble)

    def _trouble(self, why: str) -> UnavailableError:
        return UnavailableError(
            f"the projection {self._path} cannot be written: {why}; nothing is lost, it goes on once it can be"
        )

    async def _asked(self, frame: bytes) -> bytes:
        """The answer to a frame, or nothing if the process died over it: then all of it is committed, or none."""
        scribe = await self._alive()
        scribe.frames.write(len(frame).to_bytes(LENGTH, "big"))
        scribe.frames.write(frame)
        try:
            answer = await scribe.answers.readline()
        except asyncio.CancelledError:
            scribe.frames.close()  # or its answer would be taken for the next one's
            raise
        if answer.endswith(b"\n"):
            return answer
        await self._end()
        return b""

    async def _alive(self) -> _Scribe:
        if self._scribe is not None and self._scribe.frames.is_closing():
            await self._end()
        if self._scribe is None:
            self._scribe = await self._started()
        return self._scribe

    async def _started(self) -> _Scribe:
        try:
            return _Scribe(
                await asyncio.create_subprocess_exec(
                    *python(PROGRAM, str(self._path), self._durability),
                    stdin=PIPE,
                    stdout=PIPE,
                    env=passed(os.environ, ("PYTHON*",)),
                    pass_fds=(self._lock,),  # so the file stays ours until this very process is gone
                    start_new_session=True,  # Ctrl-C is for us
                )
            )
        except OSError as error:
            raise self._trouble(f"no process can be started ({error.strerror})") from error

    async def _end(self) -> None:
        scribe, self._scribe = self._scribe, None
        if scribe is None:
            return
        scribe.frames.close()  # it ends when its input does, and first commits what it has
        process = scribe.process
        await gone(process, GRACE)
        if process.returncode:
            log.warning("projection.writer_died", pid=process.pid, how=how_it_ended(process.returncode))
