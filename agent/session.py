"""The session that each program of a task is: all that it has started, in whatever groups, but for daemons.

A program of a task is started in a session and a group of its own.  Some programs put their children into further
groups: timeout(1) does, and a shell with `set -m` for each job.  They stay in the session, for one leaves it only
by making another (setsid(2)), as daemons do.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

PASSES: Final = 20
"""Looks for groups that were made between a look and the signal."""

GROUP: Final = 2
SESSION: Final = 3
START: Final = 19
"""Places among the fields of proc(5)'s stat behind the program's name: state, ppid, pgrp, session …"""


def kill_group(group: int, number: signal.Signals) -> None:
    """Signal a process group, if there is (still) one."""
    with suppress(ProcessLookupError, PermissionError):  # macOS says EPERM of a group of zombies
        os.killpg(group, number)


def signal_session(session: int, number: signal.Signals) -> None:
    """Signal all groups of a session once."""
    for group in {session, *_groups(session)}:
        kill_group(group, number)


def end_session(session: int) -> None:
    """Kill all of a session.

    It reads the state of each process of this host, which takes some 10 us each.
    """
    killed: set[int] = set()
    groups = {session}
    for _ in range(PASSES):  # a group that got its SIGKILL makes no more groups
        for group in groups:
            kill_group(group, signal.SIGKILL)
        killed |= groups
        groups = _groups(session) - killed
        if not groups:
            return


def members(session: int) -> Iterator[int]:
    """The processes of a session; none where there is no /proc."""
    return (pid for pid, fields in _processes() if int(fields[SESSION]) == session)


def started(pid: int) -> int:
    """When a process was started, in clock ticks since boot; 0 if that cannot be told."""
    fields = _stat(pid)
    return int(fields[START]) if fields else 0


def _groups(session: int) -> set[int]:
    return {int(fields[GROUP]) for _, fields in _processes() if int(fields[SESSION]) == session}


def _processes() -> Iterator[tuple[int, list[bytes]]]:
    with suppress(FileNotFoundError):
        for name in os.listdir("/proc"):  # noqa: PTH208 - half the time as well
            if name.isdigit() and (fields := _stat(int(name))):
                yield int(name), fields


def _stat(pid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:  # noqa: PTH123 - half the time, for hundreds of them
            return file.read(1024).rpartition(b")")[2].split()
    except OSError:
        return []
