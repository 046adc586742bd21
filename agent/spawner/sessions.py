"""The session that each program of a task is: all that it has started, in any group, except daemons.

A program of a task is started in a session and a group of its own.  Some programs put their children into further
groups: timeout(1) does, and a shell with `set -m` for each job.  They stay in the session, for one leaves it only
by making another (setsid(2)), as daemons do.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Final

PASSES: Final = 20
"""Checks for groups that were made between a check and the signal."""

STATE: Final = 0
PARENT: Final = 1
GROUP: Final = 2
SESSION: Final = 3
"""Places among the fields of proc(5)'s stat behind the program's name: state, ppid, pgrp, session …"""

DEAD: Final = frozenset({b"Z", b"X"})


def kill_group(group: int, number: signal.Signals) -> None:
    """Signals a process group, if there is (still) one."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def signal_session(session: int, *numbers: signal.Signals) -> None:
    """Signals all groups of a session once."""
    for group in {session, *_groups({session})}:
        for number in numbers:
            kill_group(group, number)


def end_sessions(sessions: Iterable[int]) -> None:
    """Kills all of some sessions.

    It reads the state of each process of this host, which takes some 10 us each.
    """
    wanted, killed = set(sessions), set[int]()
    groups = wanted
    for _ in range(PASSES):  # a group that got its SIGKILL makes no more groups
        for group in groups:
            kill_group(group, signal.SIGKILL)
        killed |= groups
        groups = _groups(wanted) - killed
        if not groups:
            return


def living(session: int) -> Iterator[int]:
    """The processes of a session that have not ended."""
    return (pid for pid, fields in _processes() if int(fields[SESSION]) == session and fields[STATE] not in DEAD)


def children(pid: int) -> list[int]:
    """The processes that were started by one of a single thread, or have become its children; ended ones too."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", "rb", buffering=0) as file:  # noqa: PTH123 - half the time
            return [int(number) for number in file.readall().split()]
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN
        return [number for number, fields in _processes() if int(fields[PARENT]) == pid]


def _groups(sessions: AbstractSet[int]) -> set[int]:
    return {int(fields[GROUP]) for _, fields in _processes() if int(fields[SESSION]) in sessions}


def _processes() -> Iterator[tuple[int, list[bytes]]]:
    for name in os.listdir("/proc"):  # noqa: PTH208 - half the time as well
        if name.isdigit() and (fields := _stat(int(name))):
            yield int(name), fields


def _stat(pid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:  # noqa: PTH123 - half the time, for hundreds of them
            return file.read(1024).rpartition(b")")[2].split()
    except OSError:
        return []
