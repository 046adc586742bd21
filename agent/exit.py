"""Waiting for a child to end, without a thread a child.

asyncio's own watcher starts a thread for each child before Python 3.12, which costs more than
spawning it.  A pidfd is readable once its process has ended, and needs nothing else.
"""

from __future__ import annotations

import asyncio
import os
import subprocess


async def ending(process: subprocess.Popen[bytes]) -> None:
    """Wait until the process has ended; it is not reaped, so its number, and its group's, is not given away yet."""
    if process.returncode is not None:
        return
    if not hasattr(os, "pidfd_open"):
        await asyncio.get_running_loop().run_in_executor(None, process.wait)
        return
    try:
        pidfd = os.pidfd_open(process.pid)
    except OSError:  # reaped already, or a kernel before 5.3
        await asyncio.get_running_loop().run_in_executor(None, process.wait)
        return
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def readable() -> None:
        loop.remove_reader(pidfd)
        if not ended.done():
            ended.set_result(None)

    loop.add_reader(pidfd, readable)
    try:
        await ended
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)


async def exited(process: subprocess.Popen[bytes]) -> int:
    """Wait until the process has ended, and reap it: its exit code, negative for a signal."""
    await ending(process)
    return process.wait()
