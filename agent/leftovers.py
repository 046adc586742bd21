"""What a spawner has left behind that was killed: it is found in the ledger, and killed."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

import structlog

from muster.agent.spawner.ledger import SIZE, sessions
from muster.agent.spawner.sessions import end_sessions, living

log = structlog.get_logger()

MARK: Final = "MUSTER_AGENT"
"""The environment variable that says whose process it is."""


def open_ledger(path: Path) -> int:
    """A new ledger, locked for as long as an agent or a spawner has it open."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def end_leftovers(folder: Path) -> int:
    """Kills the sessions that agents which are gone have left behind, and removes their ledgers; how many."""
    count = 0
    for path in folder.iterdir():
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            count += end_noted(file, path.name)
            path.unlink(missing_ok=True)
        except BlockingIOError:
            continue  # its agent lives
        finally:
            os.close(file)
    return count


def end_noted(ledger: int, agent: str) -> int:
    """Kills the sessions of a ledger that still are the agent's; how many."""
    noted = set(sessions(os.pread(ledger, SIZE, 0)))
    left = [session for session in noted if is_of(session, agent)]
    for session in left:
        log.warning("session.left", session=session)
    end_sessions(left)
    return len(left)


def is_of(session: int, agent: str) -> bool:
    """Whether a process of the session bears the agent's mark: numbers of processes are used again."""
    mark = f"\0{MARK}={agent}\0".encode()
    return any(mark in environment(pid) for pid in living(session))


def environment(pid: int) -> bytes:
    """What a process was started with; nothing where that is not ours to read."""
    try:
        return b"\0" + Path(f"/proc/{pid}/environ").read_bytes() + b"\0"
    except OSError:
        return b""
