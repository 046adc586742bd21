"""What ends our tasks when we cannot: a tiny child for a sudden death, a journal for the next start.

The warden is a shell that reads the sessions we hold from a pipe.  Only we have the pipe's other
end, so however we die, it reads the end of file and kills them.  Should the warden be killed with
us (a whole control group, say), the journal names the sessions for the next agent on this folder.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from muster.agent.child import Child
from muster.agent.session import end_session, members, started
from muster.mesh.service import Service

log = structlog.get_logger()

SCRIPT: Final = """\
trap '' HUP INT TERM
agent=$1
held=
first=
while read -r verb what; do
  case $verb in
  +) held="$held $what" ;;
  -) rest=; for each in $held; do [ "$each" = "$what" ] || rest="$rest $each"; done; held=$rest ;;
  =) first=$what ;;
  esac
done
for each in $held; do kill -s KILL -- "-$each"; done
left=$held
while [ -n "$left" ]; do
  left=
  for stat in /proc/[0-9]*/stat; do
    read -r line < "$stat" || continue
    set -- ${line##*) }
    case " $held " in *" $4 "*) [ "$1" = Z ] || { kill -s KILL -- "-$3"; left=1; } ;; esac
  done
  [ -z "$left" ] || sleep 0.1
done
[ -n "$first" ] || exit 0
for again in 1 2 3 4 5; do
  for process in $(grep -lsxzE "MUSTER_AGENT=$agent\\.[0-9]+" /proc/[0-9]*/environ); do
    mark=$(grep -aosxzE "MUSTER_AGENT=$agent\\.[0-9]+" "$process" | tr -d '\\0')
    [ "${mark##*.}" -ge "$first" ] || continue
    process=${process#/proc/}
    kill -s KILL -- "-${process%/environ}"
  done
  sleep 0.1
done
"""
"""A session may have more groups than the one that bears its number: proc(5)'s stat tells them.

A program that was being started when we died, or had just been, has no number that we have told; it has its mark, a
number as well, and we tell from which one on (`=`), or that there is none.  So only the first start after a rest is
told at once, and of what ends soon nothing.
"""

JOURNAL_SIZE: Final = 256 * 1024
"""Bytes after which the journal is written anew."""

TELL_DELAY: Final = 0.05
"""Seconds until the warden hears of what has changed: each telling wakes it up."""

JOURNAL_DELAY: Final = 0.25
"""Seconds between two looks for groups to note: what ends sooner is the warden's alone."""

MARK: Final = "MUSTER_AGENT"
"""The environment variable that tells whose process it is: the agent's id, and a number."""


class Warden(Service):
    """Holds sessions, so that none outlives this agent."""

    def __init__(self, folder: Path, agent: str) -> None:
        super().__init__()
        self.agent = agent
        self._folder = folder
        self._held: dict[int, int | None] = {}
        self._starting: dict[str, int] = {}
        """Marks of programs of which it is not known yet whether they have started, the oldest first."""
        self._count = 0
        self._untold: dict[int, None] = {}
        """Groups of which the warden has not heard yet."""
        self._freed: list[int] = []
        """Groups that it does not know to have ended."""
        self._telling: asyncio.TimerHandle | None = None
        self._rests = True
        """Whether the warden knows of every program that it would have to end."""
        self._pipe = -1
        self._journal = -1
        self._written = 0
        self._fresh: list[int] = []
        """Groups that are not in the journal yet: most end before it is worth its price."""

    async def run(self) -> None:
        """Keep a warden alive until cancelled; kill whatever is still held then."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        end_leftovers(self._folder)
        path = self._folder / self.agent
        self._journal = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._journal, fcntl.LOCK_EX)
        journal = asyncio.create_task(self._keep_journal())
        try:
            while True:
                await self._watch()
                log.warning("warden.died", held=len(self._held))
        finally:
            journal.cancel()
            for group in self._held:
                end_session(group)
            path.unlink(missing_ok=True)
            os.close(self._journal)
            self._journal = -1

    async def _keep_journal(self) -> None:
        while True:
            await asyncio.sleep(JOURNAL_DELAY)
            fresh, self._fresh = self._fresh, []
            for group in fresh:
                if group in self._held and self._held[group] is None:
                    self._held[group] = start = started(group)
                    self._note(f"+{group} {start}\n")

    async def _watch(self) -> None:
        reading, self._pipe = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._pipe, False)
        self._untold, self._freed = dict.fromkeys(self._held), []
        self._tell()  # before the shell is there: it finds it when it starts to read
        process = subprocess.Popen(  # noqa: ASYNC220 - as long as any task of ours takes to start
            ["/bin/sh", "-c", SCRIPT, "warden", self.agent],
            stdin=reading,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        os.close(reading)
        process.returncode = 0  # it is `Child` that reaps it
        shell = Child(process.pid)
        self.ready.set()
        try:
            await shell.ending()
        finally:
            if self._telling is not None:
                self._tell()
            os.close(self._pipe)
            self._pipe = -1
            await asyncio.shield(shell.ending())
            shell.reap()

    def start(self) -> str:
        """A program is about to be started; the mark to put into its environment as `MARK`."""
        self._count += 1
        mark = f"{self.agent}.{self._count}"
        self._starting[mark] = self._count
        if self._rests:
            self._rests = False
            self._write(f"= {self._count}\n")
        return mark

    def failed(self, mark: str) -> None:
        """The program could not be started, or is gone already."""
        del self._starting[mark]
        self._tell_soon()

    def hold(self, group: int, mark: str) -> None:
        """Kill this group when we are gone."""
        del self._starting[mark]
        self._held[group] = None
        self._fresh.append(group)
        self._untold[group] = None
        self._tell_soon()

    def free(self, group: int) -> None:
        """The group has ended."""
        if group not in self._held:
            return
        if self._held.pop(group) is not None:
            self._note(f"-{group} 0\n")
        if group in self._untold:
            del self._untold[group]
        else:
            self._freed.append(group)
            self._tell_soon()

    def _tell_soon(self) -> None:
        if self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(TELL_DELAY, self._tell)

    def _tell(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        lines = [f"- {group}\n" for group in self._freed]  # first, for its number may be another's by now
        lines += [f"+ {group}\n" for group in self._untold]
        lines.append(f"= {next(iter(self._starting.values()), '')}\n")
        self._rests = not self._starting
        self._untold, self._freed = {}, []
        self._write("".join(lines))

    def _write(self, lines: str) -> None:
        if self._pipe < 0:
            return
        try:
            os.write(self._pipe, lines.encode())
        except OSError as error:  # dead (its watcher starts another, which is told all), or stuck
            log.warning("warden.deaf", error=str(error))

    def _note(self, line: str) -> None:
        if self._written > JOURNAL_SIZE:
            os.ftruncate(self._journal, 0)
            line = "".join(f"+{group} {start}\n" for group, start in self._held.items() if start is not None)
            self._written = 0
        with suppress(OSError):  # a full disk must not stop the work: the warden knows as well
            self._written += os.write(self._journal, line.encode())


def end_leftovers(folder: Path) -> int:
    """Kill the groups that agents which are gone have left behind; how many."""
    count = 0
    for path in folder.iterdir():
        with path.open("rb") as journal:
            try:
                fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # its agent lives
            for group, start in _held(journal.read().decode(errors="replace")):
                count += _end(group, start, path.name)
            path.unlink(missing_ok=True)
    return count


def _held(journal: str) -> Iterator[tuple[int, int]]:
    held: dict[int, int] = {}
    for line in journal.splitlines():
        group, _, start = line[1:].partition(" ")
        if not group.isdigit() or not start.isdigit():
            continue  # a torn last line
        if line.startswith("+"):
            held[int(group)] = int(start)
        else:
            held.pop(int(group), None)
    yield from held.items()


def _end(group: int, start: int, agent: str) -> bool:
    """Kill one group, if it is the same that was noted: process numbers are used again."""
    leader = started(group)
    is_ours = leader == start if leader else any(_is_marked(pid, agent) for pid in members(group))
    if is_ours:
        log.warning("warden.leftover_killed", group=group)
        end_session(group)
    return is_ours


def _is_marked(pid: int, agent: str) -> bool:
    try:
        return f"\0{MARK}={agent}.".encode() in b"\0" + Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
