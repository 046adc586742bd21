"""One program of a task: spawned in a session of its own, read while it runs, ended for good.

The session is what counts: everything that the program started and left behind in it is killed when the
program ends.  What has made a session of its own (a daemon) is left alone, and cannot hold the
order up by holding on to the output.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
import termios
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from muster.agent.output import CHUNK, Output
from muster.agent.spawning import Program, Running, Spawner

FIRST_READ_DELAY: Final = 0.02
"""Seconds that what a program prints stays in its pipe at first: if it has ended by then, it is read only once."""

DRAIN_TIMEOUT: Final = 0.5
"""Seconds that output is read after the program's end, if somebody else still holds the pipe."""

MOST_DRAINED: Final = 1024 * 1024
"""Bytes that are read then: a pipe's full capacity."""

KILL_TIMEOUT: Final = 6.0
"""Seconds beyond the grace for what was killed to be gone."""

PIPE_SIZE: Final = 1024 * 1024
"""Capacity of the pipe of a program that prints much."""


class Tap:
    """Reads a pipe into the output, and stops reading while the output's queue is full."""

    def __init__(self, pipe: int, output: Output) -> None:
        self._loop = asyncio.get_running_loop()
        self._pipe = pipe
        self._output = output
        self._is_wide = self._is_closed = False
        self.count = 0
        """Bytes read so far."""
        self.is_paused = False
        self.ended: asyncio.Future[None] = self._loop.create_future()
        os.set_blocking(pipe, False)
        self._opening = self._loop.call_later(FIRST_READ_DELAY, self.open)

    def open(self) -> None:
        """Reads what comes, from now on."""
        self._opening.cancel()
        if not self.is_paused:
            self._loop.add_reader(self._pipe, self._readable)

    def _readable(self) -> None:
        try:
            data = os.read(self._pipe, CHUNK)
        except BlockingIOError:
            return
        if not data:
            self._loop.remove_reader(self._pipe)
            if not self.ended.done():
                self.ended.set_result(None)
            return
        self.count += len(data)
        if not self._is_wide and len(data) >= CHUNK // 4:
            self._widen()
        if not self._output.feed(data):
            self._loop.remove_reader(self._pipe)
            self.is_paused = True
            self._output.on_space = self._resume

    def _widen(self) -> None:
        self._is_wide = True
        with suppress(OSError, AttributeError):  # the user's share of pipe memory is used up, or not Linux
            fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, PIPE_SIZE)

    def _resume(self) -> None:
        self.is_paused = False
        if not self._is_closed:
            self._loop.add_reader(self._pipe, self._readable)

    async def drain(self) -> None:
        """Reads what is left after the program's end: to the end of file, or for a while."""
        for _ in range(2):  # what was printed, if it is not too much, and the end
            if not self.ended.done() and not self.is_paused:
                self._readable()
        if not self.ended.done():
            self.open()
        before, start = self.count, self._loop.time()
        while not self.ended.done() and self.count - before < MOST_DRAINED:
            if self.is_paused:
                await self._output.space()
                start = self._loop.time()
            left = start + DRAIN_TIMEOUT - self._loop.time()
            if left <= 0 and not self._unread():
                return
            await asyncio.wait((self.ended,), timeout=max(left, 0.01))

    def _unread(self) -> int:
        unread = fcntl.ioctl(self._pipe, termios.FIONREAD, b"\0" * 4)
        return int(struct.unpack("i", unread)[0])

    def close(self) -> None:
        """Reads what is there, and no more."""
        self._is_closed = True
        self._opening.cancel()
        with suppress(BlockingIOError):
            for _ in range(MOST_DRAINED // CHUNK):
                if not (data := os.read(self._pipe, CHUNK)):
                    break
                self._output.feed(data)
        self._output.on_space = None
        self._loop.remove_reader(self._pipe)
        os.close(self._pipe)


async def run_process(program: Program, *, output: Output, spawner: Spawner, grace: Callable[[], float]) -> int:
    """Runs a program to its end; its exit code, negative for a signal.

    Cancelled: SIGTERM to its session, the grace (asked for then), SIGKILL; cancelled once more: SIGKILL at once.

    Raises:
        OSError: it cannot be started.
        CutOffError: it was killed, for its agent or spawner did not respond.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        running = await spawner.start(program, writing)
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    tap = Tap(reading, output)
    try:
        try:
            await asyncio.wait((running.ended,))
        except asyncio.CancelledError:
            await _stop(running, grace())
            raise
        code = running.ended.result()
        await tap.drain()
    finally:
        tap.close()
    return code


async def _stop(running: Running, grace: float) -> None:
    running.stop(grace)
    try:
        await _ended(running, grace + KILL_TIMEOUT)
    except asyncio.CancelledError:
        running.stop(0.0)
        await _ended(running, KILL_TIMEOUT)
        raise


async def _ended(running: Running, within: float) -> None:
    """Waits until nothing of it runs.  A spawner that cannot end it is killed, and with it all that it has started."""
    await asyncio.wait((running.ended,), timeout=within)
    if not running.ended.done():
        running.give_up()
        await asyncio.wait((running.ended,), timeout=KILL_TIMEOUT)
    if running.ended.done():
        running.ended.exception()  # it is retrieved, and of no use
