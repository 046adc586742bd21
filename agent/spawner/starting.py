"""A program is started: in a session of its own, with nothing of ours but its output."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, NoReturn

PR_SET_NO_NEW_PRIVS: Final = 38
PR_CAPBSET_DROP: Final = 24
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
CAPABILITIES: Final = 64
"""More than there are."""

CAPABILITY_VERSION: Final = 0x20080522

DEFAULT: Final = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ)
"""Signals that the spawner ignores, or Python does, and programs do not expect to be ignored."""

SYSTEM: Final = ("/bin/", "/usr/")
"""Where a program is on the disk that everything here is on.  Any other disk may be slow, or unreachable."""


class Program(NamedTuple):
    """What to start."""

    argv: list[str]
    env: Mapping[str, str]
    cwd: str
    is_local: bool
    """Whether its folder is on the agent's own disk."""
    user: Sequence[Any] | None
    """User id, group id and further group ids to run as."""
    cgroup: str | None
    """The control group to run in."""


class Starter:
    """Starts programs."""

    def __init__(self, failures: int) -> None:
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._failures = failures
        """A pipe for children that cannot become their program: each writes its number and why."""
        self._library = ctypes.CDLL(None, use_errno=True)

    def start(self, program: Program, output: int) -> int:
        """Starts it; its number.

        Raises:
            OSError, ValueError: it cannot be started.
        """
        if program.is_local and not program.user and not program.cgroup and program.argv[0].startswith(SYSTEM):
            return self._spawn(program, output)
        return self._fork(program, output)

    def _spawn(self, program: Program, output: int) -> int:
        """The quick way: no copy of our memory.  It returns once the program is loaded."""
        os.chdir(program.cwd)
        try:
            return os.posix_spawn(
                program.argv[0],
                program.argv,
                program.env,
                file_actions=[(os.POSIX_SPAWN_DUP2, file, n) for n, file in enumerate((self._null, output, output))],
                setsid=True,
                setsigdef=DEFAULT,
            )
        finally:
            os.chdir("/")

    def _fork(self, program: Program, output: int) -> int:
        """The way on which more can be done before the program, and only the child waits for a disk."""
        pid = os.fork()
        if pid == 0:
            self._become(program, output)
        return pid

    def _become(self, program: Program, output: int) -> NoReturn:
        code = 0
        try:
            os.setsid()
            for number, file in enumerate((self._null, output, output)):
                os.dup2(file, number)
            for signal_number in DEFAULT:
                signal.signal(signal_number, signal.SIG_DFL)
            if program.cgroup is not None:
                self._enter(program.cgroup)
            if program.user is not None:
                self._change_to(*program.user)
            os.chdir(program.cwd)
            os.execvpe(program.argv[0], program.argv, program.env)  # noqa: S606 - no shell, on purpose
        except OSError as error:
            code = error.errno or 0
        except BaseException:  # noqa: BLE001 - nothing of the spawner's may run on here
            code = 0
        finally:
            os.write(self._failures, b"%d %d\n" % (os.getpid(), code))
            os._exit(127)

    def _enter(self, cgroup: str) -> None:
        handle = os.open(f"{cgroup}/cgroup.procs", os.O_WRONLY)
        os.write(handle, b"0")
        os.close(handle)

    def _change_to(self, user: int, group: int, groups: Sequence[int]) -> None:
        """Becomes a user, for good: no capabilities, and no program that would give any."""
        prctl = self._library.prctl
        for number in range(CAPABILITIES):
            prctl(PR_CAPBSET_DROP, number, 0, 0, 0)
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
        os.setgroups(groups)
        os.setresgid(group, group, group)
        os.setresuid(user, user, user)
        header, none = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)()
        if self._library.capset(header, none) or prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "cannot give up all capabilities")
