"""A file that one process holds at a time; the kernel lets go when the process ends, however it ends."""

from __future__ import annotations

import fcntl


def taken(file: int) -> bool:
    """Whether we hold the lock of this open file now; somebody else's is not waited for."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
