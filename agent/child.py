"""Child processes, started and waited for at the price of the system calls.

Before Python 3.12, asyncio starts a thread for each child to wait for it, and uvloop takes two to three times as long
to start one; a pidfd is readable once its process has ended, and needs nothing else.  Starting one takes as long as its
program takes to load, and nothing else is done meanwhile: a fifth of the price of an order is saved by not leaving
that to a thread, where it is short.  But a program or a folder may be on a disk that is slow, or away, and then nobody
may wait for it but a thread (ctypes lets go of Python's lock, so the loop goes on).  So what is not known to start
quickly is started there.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

import msgspec

SPAWNERS: Final = 2
"""Threads that start children."""

QUICK: Final = 0.01
"""Seconds that a start may take of the loop's time."""

KNOWN: Final = 256
"""Pairs of a program and a place of which it is remembered that starts were quick."""


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """What to start."""

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    output: int
    """File descriptor of its standard output and standard error."""


class Child:
    """A process of ours, in a session and group of its own."""

    __slots__ = ("pid", "returncode")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        """Its exit code once it is reaped; negative for a signal."""

    def reap(self) -> int | None:
        """Its exit code, if it has ended; its number may then be used again."""
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                self.returncode = 255  # somebody else has reaped it
                return self.returncode
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    async def ending(self) -> None:
        """Wait until it has ended.  It is not reaped, so its number and its group's are not given away yet."""
        if self.returncode is not None:
            return
        loop = asyncio.get_running_loop()
        try:
            pidfd = os.pidfd_open(self.pid)
        except (OSError, AttributeError):  # a kernel before 5.3, or not Linux
            await loop.run_in_executor(None, self._wait)
            return
        ended: asyncio.Future[None] = loop.create_future()
        loop.add_reader(pidfd, _readable, ended)
        try:
            await ended
        finally:
            loop.remove_reader(pidfd)
            os.close(pidfd)

    def _wait(self) -> None:
        _, status = os.waitpid(self.pid, 0)
        self.returncode = os.waitstatus_to_exitcode(status)


def _readable(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)


@lru_cache(maxsize=1)
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(SPAWNERS, thread_name_prefix="spawn")


async def spawn(program: Program, undone: Callable[[], None]) -> Child:
    """Start a program.

    Cancelled, it may start nevertheless; then it is killed, and `undone` is called once it is certain that it is gone.

    Raises:
        OSError: it cannot be started.
    """
    spawner = _spawner()
    if spawner is None:
        return _popen(program)
    if spawner.is_quick(program):
        return Child(spawner.spawn(program))
    starting = asyncio.get_running_loop().run_in_executor(_threads(), spawner.spawn, program)
    try:
        return Child(await asyncio.shield(starting))
    except asyncio.CancelledError:
        starting.add_done_callback(partial(_undo, undone))
        raise


def _undo(undone: Callable[[], None], starting: asyncio.Future[int]) -> None:
    if not starting.cancelled() and starting.exception() is None:
        pid = starting.result()
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    undone()


def _popen(program: Program) -> Child:
    process = subprocess.Popen(
        list(program.argv),
        env=dict(program.env),
        cwd=program.cwd,
        stdin=subprocess.DEVNULL,
        stdout=program.output,
        stderr=program.output,
        start_new_session=True,
    )
    process.returncode = 0  # it is `Child` that reaps it
    return Child(process.pid)


class _Spawner:
    """posix_spawn(3) of the C library, called without Python's lock."""

    SETSIGDEF: Final = 0x04
    SETSID: Final = 0x80

    def __init__(self, library: Any) -> None:
        self._library = library
        self._attributes = ctypes.create_string_buffer(1024)  # glibc's has 336 bytes, musl's about the same
        signals = ctypes.create_string_buffer(256)
        library.sigemptyset(signals)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them; programs do not expect that
            library.sigaddset(signals, int(number))
        library.posix_spawnattr_init(self._attributes)
        library.posix_spawnattr_setsigdefault(self._attributes, signals)
        library.posix_spawnattr_setflags(self._attributes, ctypes.c_short(self.SETSIGDEF | self.SETSID))
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._quick: set[tuple[str, str]] = set()

    def is_quick(self, program: Program) -> bool:
        """Whether it has started quickly the last time, in a folder beside this one."""
        return _kind(program) in self._quick

    def spawn(self, program: Program) -> int:
        """Start it; its number.

        Raises:
            OSError: it cannot be started.
        """
        begin = time.monotonic()
        pid = self._spawn(program)
        if time.monotonic() - begin > QUICK:
            self._quick.discard(_kind(program))
        else:
            if len(self._quick) >= KNOWN:
                self._quick.clear()
            self._quick.add(_kind(program))
        return pid

    def _spawn(self, program: Program) -> int:
        library = self._library
        texts = [*program.argv, *[f"{name}={value}" for name, value in program.env.items()]]
        parts = os.fsencode("\0".join(texts)).split(b"\0")
        if len(parts) != len(texts):
            raise ValueError("embedded null byte")
        argv, env = parts[: len(program.argv)], parts[len(program.argv) :]
        actions = ctypes.create_string_buffer(512)  # glibc's has 80 bytes
        library.posix_spawn_file_actions_init(actions)
        pid = ctypes.c_int()
        try:
            for target, source in enumerate((self._null, program.output, program.output)):
                library.posix_spawn_file_actions_adddup2(actions, source, target)
            library.posix_spawn_file_actions_addchdir_np(actions, os.fsencode(program.cwd))
            error = library.posix_spawnp(
                ctypes.byref(pid),
                argv[0],
                actions,
                self._attributes,
                (ctypes.c_char_p * (len(argv) + 1))(*argv, None),
                (ctypes.c_char_p * (len(env) + 1))(*env, None),
            )
        finally:
            library.posix_spawn_file_actions_destroy(actions)
        if error:
            raise OSError(error, os.strerror(error), program.argv[0])
        return pid.value


def _kind(program: Program) -> tuple[str, str]:
    return program.argv[0], str(program.cwd).rpartition("/")[0]  # a fifth of what dirname takes


@lru_cache(maxsize=1)
def _spawner() -> _Spawner | None:
    """The C library's, where it has what we need (glibc 2.29, musl 1.2)."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    if not hasattr(library, "posix_spawn_file_actions_addchdir_np"):
        return None
    return _Spawner(library)


def keep_files_to_ourselves() -> None:
    """What we have inherited beyond the three standard streams is not for tasks; Python's own files are safe."""
    for entry in list(Path("/dev/fd").iterdir()):
        number = int(entry.name)
        try:
            if number > 2 and os.get_inheritable(number):  # noqa: PLR2004 - standard error
                os.set_inheritable(number, False)
        except OSError:  # the one that listed them
            continue
