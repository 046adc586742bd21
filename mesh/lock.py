"""A file that one process holds at a time; the kernel lets go when the process ends, however it ends."""

from __future__ import annotations

import asyncio
import fcntl
from typing import Final

LOOK: Final = 0.05
"""Seconds between two looks."""


def taken(file: int) -> bool:
    """Whether we hold the lock of this open file now; somebody else's is not waited for."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def taken_within(file: int, seconds: float) -> bool:
    """Whether we hold the lock within so many seconds: its holder may be about to end."""
    try:
        async with asyncio.timeout(seconds):
            while not taken(file):  # noqa: ASYNC110 - only the kernel knows when the holder before us is gone
                await asyncio.sleep(LOOK)
    except TimeoutError:
        return False
    return True
