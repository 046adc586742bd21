"""What process 1 of a container must do besides its own work: reap what others have left, and pass signals on.

Nobody but process 1 gets the orphans of a container, and signals that it has no handler for are dropped.  So the
command runs as its child.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import Final

from muster.mesh.environment import conceal

PASSED_ON: Final = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


def as_a_child_of_process_one() -> None:
    """Return in a child; process 1 itself stays here until that has ended, and ends the same way."""
    child = 0

    def pass_on(number: int, _: object) -> None:
        with suppress(ProcessLookupError):
            os.kill(child, number)

    before = {number: signal.signal(number, pass_on) for number in PASSED_ON}
    child = os.fork()
    if child == 0:
        for number, handler in before.items():
            signal.signal(number, handler)
        _take_the_terminal()
        return
    conceal()
    while True:
        ended, status = os.wait()
        if ended == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)


def _take_the_terminal() -> None:
    """Be alone in the group that Ctrl-C is for: what process 1 gets as well would come twice."""
    os.setpgid(0, 0)
    if sys.stdin is not None and sys.stdin.isatty():
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        with suppress(OSError):
            os.tcsetpgrp(sys.stdin.fileno(), os.getpgrp())
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
