"""`uses: script` (or just `run:`): a program on the element's host.

Data never becomes code: the text is not a template.  A script gets its inputs as `INPUT_<NAME>` and
as JSON in the file `$MUSTER_INPUTS`, and says its outputs in the file `$MUSTER_OUTPUTS`.

The common case, a few lines of bash, costs one spawn and no file: the text is an argument.
"""

from __future__ import annotations

import asyncio
import errno
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import structlog

from muster.blueprints.definition import Task
from muster.blueprints.kinds import script_command, script_values
from muster.blueprints.kinds.script_files import Owner, write_file
from muster.blueprints.paths import join
from muster.blueprints.references import VARIABLES
from muster.blueprints.task import Context, Done, Failed, Outcome
from muster.blueprints.templates import as_text
from muster.mesh.errors import Problem

log = structlog.get_logger()

T = TypeVar("T")

FULL_PAUSE: Final = 2.0
"""Seconds between two tries to write a script's files on a full disk."""

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class _Places(msgspec.Struct, frozen=True):
    """Where a script's files are."""

    folder: Path
    cwd: Path
    outputs: Path


class Script:
    """Runs a program."""

    def check(self, task: Task, path: str) -> Iterator[Problem]:
        """Neither or both of `run` and `file`, `with:` fields, bad file names."""
        if (task.run is None) == (task.file is None):
            yield Problem(path=path, message="a script needs either `run:` (its text) or `file:` (its path)")
        for name in task.with_:
            hint = "a script reads the order's inputs: declare them under `inputs`"
            yield Problem(path=join(path, "with", name), message="a script has no `with:` fields", hint=hint)
        if task.run is not None:
            yield from _check_text(task.run, join(path, "run"))
        for name, value in task.env.items():
            if not name or "=" in name or "\0" in name + value:
                yield Problem(path=join(path, "env", name), message=f"{name!r} cannot be in an environment")
        for name in task.files:
            if why := bad_file_name(name):
                yield Problem(path=join(path, "files", name), message=why)

    async def run(self, task: Task, context: Context) -> Outcome:
        """Spawn it, wait for it, read its outputs."""
        try:
            folder = await _once_there_is_space(context, context.folder)
            outputs = folder / f".outputs-{context.job}-{context.attempt}"
            places = _Places(folder, _working_folder(task, folder, context), outputs)
            if task.cwd and not places.cwd.is_dir():
                return Failed(error=f"cwd: {places.cwd} is not a folder on {context.element}", final=True)
            argv, environment = await _once_there_is_space(context, lambda: _prepared(task, context, places))
        except script_command.CannotRunError as error:
            return Failed(error=str(error), final=True)
        except OSError as error:
            return Failed(error=f"cannot prepare the script: {_os_words(error)}")
        try:
            code = await context.run_process(argv, env=environment, cwd=places.cwd)
        except (OSError, ValueError) as error:
            return Failed(error=f"cannot run {argv[0]}: {_os_words(error)}", final=True)
        return _outcome(code, places.outputs)


def _prepared(task: Task, context: Context, places: _Places) -> tuple[list[str], dict[str, str]]:
    """Write the program's files; its arguments and environment."""
    _write_files(task, places.folder, context.owner)
    environment = script_values.environment(task, context, places.outputs)
    return script_command.command(task, places.cwd, places.folder, context), environment


async def _once_there_is_space(context: Context, prepare: Callable[[], T]) -> T:
    """Prepare; no space is not the task's fault, and nothing of it has run, so wait for as long as it may take."""
    while True:
        try:
            return prepare()
        except OSError as error:
            if error.errno not in _FULL:
                raise
            log.warning("script.waits", order=context.order, task=context.job, why=_os_words(error))
            await asyncio.sleep(FULL_PAUSE)


_TEMPLATE = re.compile(rf"\{{[{{%][^{{}}%\n]*?\b(?:{'|'.join((*VARIABLES, 'event'))})\b\s*[.\[][^{{}}%\n]*[%}}]\}}")
"""What would be filled in elsewhere; what other programs fill in (`{{.State}}`) is left alone."""


def _check_text(text: str, path: str) -> Iterator[Problem]:
    if "\0" in text:
        yield Problem(path=path, message="the text has a NUL character")
    if (found := _TEMPLATE.search(text)) is not None:
        yield Problem(
            path=path,
            message=f"a script is not a template, so `{found[0]}` would stay as it is: data never becomes code",
            hint='read an input as "$INPUT_NAME", or put the template under `env:` and read that variable',
        )


def bad_file_name(name: str) -> str:
    """Why a file of `files:` cannot have this name; empty if it can."""
    parts = name.split("/")
    if not name or name.startswith("/") or "\0" in name:
        return f"{name!r} must be a path inside the working folder"
    if any(part in {"", ".", ".."} for part in parts):
        return f"{name!r} must not leave the working folder"
    if parts[0].startswith((".outputs-", ".inputs-", ".script-")):
        return f"{name!r} is a name that Muster uses itself"
    return ""


def _working_folder(task: Task, folder: Path, context: Context) -> Path:
    return folder / script_command.expanded(task.cwd, context) if task.cwd else folder


def _write_files(task: Task, folder: Path, owner: Owner) -> None:
    """The task's `files:`, made afresh; their folders too."""
    for name, text in task.files.items():
        if why := bad_file_name(name):
            raise script_command.CannotRunError(f"files: {why}")
        try:
            write_file(folder, name, as_text(text).encode(), 0o700, owner)
        except OSError as error:
            if error.errno not in {errno.ELOOP, errno.ENOTDIR}:
                raise
            raise script_command.CannotRunError(f"files: {name!r} leads out of the working folder") from None


def _outcome(code: int, outputs: Path) -> Outcome:
    try:
        said = script_values.read_outputs(outputs)
    except ValueError as error:
        if code == 0:
            return Failed(error=str(error), exit_code=code)
        said = {}
    if code == 0:
        return Done(outputs=said, exit_code=0)
    return Failed(error=_exit_words(code), outputs=said, exit_code=code)


_COMMON = {126: "the program is not executable", 127: "a command was not found"}


def _exit_words(code: int) -> str:
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = "an unknown signal"
        return f"ended by {name} ({-code})"
    return f"exit code {code}" + (f" ({_COMMON[code]})" if code in _COMMON else "")


def _os_words(error: BaseException) -> str:
    number = getattr(error, "errno", None)
    if number == errno.ENOEXEC:
        return "it is not a program; a script starts with `#!`"
    if number == errno.E2BIG:
        return "its environment is too large; read the inputs from the file $MUSTER_INPUTS"
    return str(getattr(error, "strerror", None) or error)
