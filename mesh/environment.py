"""The part of a process's environment that tasks get: how this host works, and nothing secret.

A role's own environment may hold the mesh's tokens, the secrets of triggers and of HTTP tasks.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

PLAIN: Final = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "TZ",
    "TERM",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "*_proxy",
    "*_PROXY",
)
"""Names, `*` for any end or start, that every process started by a role gets."""

KEYS: Final = frozenset(
    {
        "MUSTER_TOKEN",
        "MUSTER_TOKEN_FILE",
        "MUSTER_NATS_TOKEN",
        "MUSTER_NATS_TOKEN_FILE",
        "MUSTER_SERVER",
        "CREDENTIALS_DIRECTORY",
    }
)
"""What opens the mesh: a role may have it in its environment, and no task may (a server's URL may hold a password)."""

READ_LATE: Final = ("LD_*", "MALLOC_*", "GLIBC_*", "UV_*", "OPENSSL_*", "RES_OPTIONS", "LOCALDOMAIN")
"""Names that libraries in C read when they need them, long after the start."""

PR_SET_DUMPABLE: Final = 4
ENVIRONMENT: Final = 47
"""Place of the environment's first address among the fields of proc(5)'s stat behind the program's name."""


def passed(environment: Mapping[str, str], more: Iterable[str] = ()) -> dict[str, str]:
    """Returns a task's part of an environment: the plain names, those of `more`, and no key of the mesh."""
    patterns = (*PLAIN, *more)
    return {name: value for name, value in environment.items() if not _is_ours(name) and _matches(name, patterns)}


def conceal() -> None:
    """Hides our environment and memory from other processes of this account, and our secrets from root's `ps e`.

    /proc/PID/environ shows the memory in which the kernel has put the environment.  Python has its own copy of
    it, so the values there are blanked, except plain ones and those that libraries read late.
    """
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    with suppress(OSError, ValueError, IndexError):
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        start, end = int(fields[ENVIRONMENT]), int(fields[ENVIRONMENT + 1])
        at = start
        for entry in ctypes.string_at(start, end - start).split(b"\0") if start else []:
            name, equals, value = entry.partition(b"=")
            if equals and not _matches(os.fsdecode(name), (*PLAIN, *READ_LATE)):
                ctypes.memset(at + len(name) + 1, 0, len(value))
            at += len(entry) + 1
    library.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def _is_ours(name: str) -> bool:
    return name in KEYS or name.startswith("INPUT_")


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
