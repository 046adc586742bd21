"""Which program to start for a script.

The `#!` line is read here, not by the kernel: so a missing interpreter is reported in words, the
script's folder may be mounted noexec, and a file just written is never executed itself (another
thread's fork could still hold it open: ETXTBSY).
"""

from __future__ import annotations

import os
import shutil
from functools import lru_cache
from pathlib import Path

from muster.blueprints.definition import Task
from muster.blueprints.kinds.script_files import write_file
from muster.blueprints.task import Context

_LONGEST_ARGUMENT = 100_000
"""Bytes; Linux takes 128 KB for one argument (MAX_ARG_STRLEN)."""

_BASH = ("-euo", "pipefail")


class CannotRunError(Exception):
    """The script cannot be started, and another try would not help."""


def command(task: Task, cwd: Path, folder: Path, context: Context) -> list[str]:
    """The arguments to start the task's script with.

    Raises:
        CannotRunError: no such file, not executable, no interpreter.
    """
    if task.run is None:
        return _file_command(cwd / expanded(task.file or "", context))
    text = task.run.replace("\r\n", "\n")  # YAML has done so already; JSON has the text as its editor left it
    if not text.startswith("#!"):
        if len(text) <= _LONGEST_ARGUMENT // 4 or len(text.encode()) <= _LONGEST_ARGUMENT:
            return [program("bash"), *_BASH, "-c", text, "muster"]
        return [program("bash"), *_BASH, str(_written(text, folder, context))]
    return [*interpreter(text.split("\n", 1)[0]), str(_written(text, folder, context))]


def interpreter(line: str) -> list[str]:
    """The program and at most one argument of a `#!` line, as execve(2) reads it; `env NAME` is looked up here."""
    parts = line.removeprefix("#!").strip().split(None, 1)
    if not parts:
        raise CannotRunError("the script's #! line names no interpreter")
    if Path(parts[0]).name == "env" and len(parts) > 1 and not parts[1].startswith("-") and "=" not in parts[1]:
        name, *arguments = parts[1].split(None, 1)
        if not arguments:
            return [program(name)]
    return [program(parts[0]), *(argument.rstrip() for argument in parts[1:])]


def program(name: str) -> str:
    """The path of a program.

    Raises:
        CannotRunError: there is none.
    """
    found = _which(name, os.environ.get("PATH", os.defpath))
    if found is not None:
        return found
    _which.cache_clear()  # it may be installed before the next try
    if "/" not in name:
        raise CannotRunError(f"the program {name!r} is not installed here")
    raise CannotRunError(f"the interpreter {name} {'is not executable' if Path(name).exists() else 'does not exist'}")


@lru_cache(maxsize=64)
def _which(name: str, path: str) -> str | None:
    return shutil.which(name, path=path)


def _file_command(place: Path) -> list[str]:
    if not place.is_file():
        raise CannotRunError(f"the script file {place} {'is not a file' if place.exists() else 'does not exist'}")
    if not os.access(place, os.X_OK):
        raise CannotRunError(f"the script file {place} is not executable; chmod +x it")
    return [str(place)]


def expanded(path: str, context: Context) -> Path:
    """A path, `~` being the home of whoever runs the program."""
    home = context.environment.get("HOME")
    return Path(home, path[2:]) if home and path[:2] in {"~", "~/"} else Path(path).expanduser()


def _written(text: str, folder: Path, context: Context) -> Path:
    return write_file(folder, f".script-{context.job}", text.encode(), 0o700, context.owner)
