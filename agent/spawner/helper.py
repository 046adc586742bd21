"""The spawner's process: one thread that starts programs, waits for them, and ends them.

`python -c "…; from muster.agent.spawner.helper import main; main()"` with inherited files: its end of the channel, the
ledger, and locks that it only holds.  Every timer that ends a program is here, so no agent that hangs stretches it.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import Any, Final

from muster.agent.spawner.channel import Channel
from muster.agent.spawner.ledger import Ledger
from muster.agent.spawner.sessions import children, end_sessions, living, signal_session
from muster.agent.spawner.starting import Program, Starter

PR_SET_DUMPABLE: Final = 4
PR_SET_CHILD_SUBREAPER: Final = 36

LEFTOVERS_DELAY: Final = 0.1
"""Seconds until what a program has left in its session is killed: a daemon may be about to leave it (`setsid … &`)."""

KILLED_CHECK_INTERVAL: Final = 0.05
"""Seconds between two checks of a session that was killed."""

CHECK_INTERVAL: Final = 0.25
"""Seconds between two checks of a session that was asked to end: its last process need not be our child."""

KILL_TIMEOUT: Final = 5.0
"""Seconds for what was killed to be gone; what hangs in the kernel for longer is given up."""


class Running:
    """A program that was started, and all of its session."""

    __slots__ = ("check_at", "has_ended", "id", "is_killed", "kill_at", "pid", "place", "why")

    def __init__(self, identity: int, pid: int, place: int) -> None:
        self.id = identity
        self.pid = pid
        self.place = place
        self.has_ended = False
        """The program itself has; it is not reaped, so its number and its session's are not given away yet."""
        self.kill_at: float | None = None
        """When its grace ends; None: nobody has asked it to end."""
        self.is_killed = False
        self.check_at: float | None = None
        self.why = ""


class Helper:
    """What runs, and until when it may."""

    def __init__(self, channel: Channel, ledger: Ledger) -> None:
        self._channel = channel
        self._ledger = ledger
        self._running: dict[int, Running] = {}
        self._pids: dict[int, Running] = {}
        self._cgroups: dict[str, bool] = {}
        """Control groups in which something was started, and whether they are being removed."""
        self._is_alone = False
        """The agent is gone."""
        self._silent_at: float | None = None
        """When the agent has been silent for too long."""
        self._failed: dict[int, int] = {}
        self._failures, failures = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._starter = Starter(failures)
        self._wake, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self._is_waiting = False
        self._poll = select.epoll()
        self._poll.register(channel.fileno(), select.EPOLLIN)
        self._poll.register(self._wake, select.EPOLLIN)

    def serve(self) -> None:
        """Does what the agent asks for, until it is gone; then ends what it has left."""
        while not self._is_alone:
            self._turn()
        self._kill(*self._running.values())
        self._cgroups = dict.fromkeys(self._cgroups, True)
        end = time.monotonic() + KILL_TIMEOUT
        while (self._running or self._cgroups) and time.monotonic() < end:
            self._turn()

    def _turn(self) -> None:
        """Waits for the first event, and does what it asks for."""
        ready = {file for file, _ in self._poll.poll(self._pause())}
        if self._wake in ready:
            with suppress(BlockingIOError):
                os.read(self._wake, 4096)
        if self._channel.fileno() in ready:
            self._listen()
        if self._is_due() or self._wake in ready:
            self._look()
        self._remove_cgroups()

    def _listen(self) -> None:
        try:
            self._flush(self._channel.flush())
            messages = list(self._channel.receive())
        except (EOFError, OSError):
            self._poll.unregister(self._channel.fileno())
            self._is_alone = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # whoever reads what the agent says need not wait for us
            return
        for message in messages:
            getattr(self, "do_" + message.pop("do"))(**message)

    def _pause(self) -> float | None:
        times = [each for running in self._running.values() for each in (running.kill_at, running.check_at) if each]
        if self._silent_at is not None and self._running:
            times.append(self._silent_at)
        if any(self._cgroups.values()):
            times.append(time.monotonic() + KILLED_CHECK_INTERVAL)
        return max(0.0, min(times) - time.monotonic()) if times else None

    def do_start(self, id: int, seconds: float | None, **program: Any) -> None:  # noqa: A002 - the message's word
        """Starts a program; without another word of the agent it runs so many seconds."""
        self.do_beat(seconds)
        output = self._channel.files.popleft()
        if program["cgroup"] is not None:
            self._cgroups.setdefault(program["cgroup"], False)
        try:
            pid = self._starter.start(Program(**program), output)
        except (OSError, ValueError) as error:
            self._send(["failed", id, getattr(error, "errno", 0) or 0])
            return
        finally:
            os.close(output)
        self._running[id] = self._pids[pid] = Running(id, pid, self._ledger.note(pid))

    def do_stop(self, id: int, grace: float) -> None:  # noqa: A002 - the message's word
        """Ends a program and all of its session: SIGTERM, so many seconds, SIGKILL."""
        running = self._running.get(id)
        if running is None or running.is_killed:
            return
        if not grace:
            self._kill(running)
            return
        at = time.monotonic() + grace
        if running.kill_at is None:
            signal_session(running.pid, signal.SIGTERM, signal.SIGCONT)
            running.kill_at, running.check_at = at, time.monotonic() + CHECK_INTERVAL
        else:
            running.kill_at = min(at, running.kill_at)

    def do_beat(self, seconds: float | None) -> None:
        """The agent moves; without another word of its, what runs may run for so many seconds."""
        self._silent_at = None if seconds is None else time.monotonic() + seconds

    def do_close(self, cgroup: str) -> None:
        """Kills all that is in a control group, and removes it."""
        self._cgroups[cgroup] = True
        self._remove_cgroups()

    def _remove_cgroups(self) -> None:
        for cgroup in [name for name, is_closing in self._cgroups.items() if is_closing]:
            try:
                with open(f"{cgroup}/cgroup.kill", "w") as file:  # noqa: PTH123 - no pathlib here
                    file.write("1")
                os.rmdir(cgroup)  # noqa: PTH106 - the same
            except FileNotFoundError:
                pass
            except OSError:
                continue  # what was killed has not ended yet
            del self._cgroups[cgroup]
            self._send(["closed", cgroup, 0])

    def _kill(self, *doomed: Running) -> None:
        end_sessions(running.pid for running in doomed)
        for running in doomed:
            if not running.is_killed:
                running.is_killed = True
                running.kill_at = time.monotonic() + KILL_TIMEOUT
            running.check_at = time.monotonic() + KILLED_CHECK_INTERVAL

    def _is_due(self) -> bool:
        """Kills what has had its time; whether it is time for a check."""
        now = time.monotonic()
        is_due = False
        if self._silent_at is not None and now >= self._silent_at:
            self._silent_at = None
            doomed = [running for running in self._running.values() if not running.is_killed]
            for running in doomed:
                running.why = "silent"
            self._kill(*doomed)
        for running in list(self._running.values()):
            if running.kill_at is not None and now >= running.kill_at:
                if running.is_killed:
                    self._finish(running)
                else:
                    self._kill(running)
            elif running.check_at is not None and now >= running.check_at:
                is_due = True
                if running.is_killed:
                    self._kill(running)
                else:
                    running.check_at = now + CHECK_INTERVAL
        return is_due

    def _look(self) -> None:
        """Notes who has ended, reaps what is not our program, and finishes with sessions in which nobody is left."""
        ended = [running for running in self._running.values() if self._has_ended(running)]
        strays = self._strays()
        for running in ended:
            is_left = running.pid in strays
            if is_left and running.kill_at is None:
                running.kill_at = time.monotonic() + LEFTOVERS_DELAY
            elif not is_left and (running.kill_at is None or not any(living(running.pid))):
                self._finish(running)

    def _has_ended(self, running: Running) -> bool:
        if not running.has_ended and os.waitid(os.P_PID, running.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG):
            running.has_ended = True
        return running.has_ended

    def _strays(self) -> set[int]:
        """The sessions of processes that their parents have left to us; what has ended is reaped."""
        found = set()
        for pid in children(os.getpid()):
            if pid in self._pids:
                continue
            with suppress(ChildProcessError, ProcessLookupError):
                if os.waitpid(pid, os.WNOHANG)[0] == 0:
                    found.add(os.getsid(pid))
        return found

    def _finish(self, running: Running) -> None:
        pid, status = os.waitpid(running.pid, os.WNOHANG)
        code = os.waitstatus_to_exitcode(status) if pid else -int(signal.SIGKILL)
        self._ledger.clear(running.place)
        del self._running[running.id], self._pids[running.pid]
        why = self._failure(running.pid) if code == 127 else None  # noqa: PLR2004 - what a child says that failed
        self._send(["ended", running.id, code, running.why] if why is None else ["failed", running.id, why])

    def _failure(self, pid: int) -> int | None:
        """Why a child could not become its program."""
        with suppress(BlockingIOError):
            for line in os.read(self._failures, 1 << 16).splitlines():
                number, _, why = line.partition(b" ")
                self._failed[int(number)] = int(why)
        return self._failed.pop(pid, None)

    def _send(self, message: list[Any]) -> None:
        with suppress(OSError):  # gone: that is noticed where we listen
            self._flush(self._channel.send(message))

    def _flush(self, is_left: bool) -> None:
        """Hears when the agent takes what is left."""
        if is_left != self._is_waiting:
            self._is_waiting = is_left
            self._poll.modify(self._channel.fileno(), select.EPOLLIN | (select.EPOLLOUT if is_left else 0))


def main() -> None:
    """Serves the agent that has started us."""
    channel, ledger, *locks = (int(number) for number in sys.argv[1:])
    for file in (channel, ledger, *locks):
        os.set_inheritable(file, False)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # it ends with its agent, and not before
    _ask_the_kernel()
    Helper(Channel(socket.socket(fileno=channel)), Ledger(ledger)).serve()


def _ask_the_kernel() -> None:
    """What is left by its parents is ours; nobody reads our memory; and the kernel spares us no more than our tasks."""
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123 - no pathlib here
        file.write("0")
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
