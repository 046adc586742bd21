"""Child processes that do not outlive their parent."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import structlog

log = structlog.get_logger()

_PR_SET_PDEATHSIG: Final = 1


def python(module: str, *args: str) -> tuple[str, ...]:
    """Returns the command line that runs one of our modules in this Python.

    `-P` keeps the current folder out of the import path: a file there must not take the place of a library.
    """
    return (sys.executable, "-P", "-m", module, *args)


def dies_with_parent(number: signal.Signals = signal.SIGKILL) -> Callable[[], None] | None:
    """Returns a `preexec_fn`: the kernel sends `number` to the child when this process is gone (Linux; None elsewhere).

    Everything it calls is looked up before the fork: a child of a process with threads must not import.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent, getppid, leave, value = os.getpid(), os.getppid, os._exit, int(number)

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, value)
        if getppid() != parent:  # it died between the fork and the prctl
            leave(0)

    return ask


async def end(process: asyncio.subprocess.Process, grace: float) -> None:
    """Sends SIGTERM, waits up to `grace` seconds, sends SIGKILL.  Cancelled meanwhile: SIGKILL at once."""
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        process.terminate()
    await gone(process, grace)


async def gone(process: asyncio.subprocess.Process, grace: float) -> None:
    """Waits up to `grace` seconds for the end of a process; then SIGKILL.  Cancelled meanwhile: SIGKILL at once."""
    try:
        async with asyncio.timeout(grace):
            await process.wait()
    except TimeoutError:
        log.warning("child.killed", pid=process.pid, grace=grace)
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def how_it_ended(code: int) -> str:
    """Returns a return code in words."""
    return f"was killed by {signal_name(-code)}" if code < 0 else f"ended with exit code {code}"


def signal_name(number: int) -> str:
    """Returns `SIGKILL`, or the number of a signal without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
