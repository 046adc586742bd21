"""Child processes that do not outlive their parent."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def dies_with_parent(number: signal.Signals = signal.SIGKILL) -> Callable[[], None] | None:
    """A `preexec_fn` that has the kernel send `number` to the child when this process is gone (Linux; None elsewhere).

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
