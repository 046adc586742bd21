"""What goes into a script (environment, inputs) and what comes out (outputs)."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from muster.blueprints.definition import Task
from muster.blueprints.fit import value_of
from muster.blueprints.kinds.script_command import CannotRunError
from muster.blueprints.kinds.script_files import write_file
from muster.blueprints.task import Context

MAX_OUTPUTS = 1024 * 1024
"""Bytes of the outputs file."""

MAX_VALUE = 32 * 1024
"""Bytes; a longer input is only in the file `$MUSTER_INPUTS`."""

MAX_VALUES = 512 * 1024
"""Bytes of all inputs in the environment together (Linux: a quarter of the stack's limit for all)."""

_NO_INPUTS = str(Path(__file__).with_name("no_inputs.json"))
"""A file with `{}`: an order without inputs need not write one."""

_NOT_IN_NAMES = re.compile(r"[^A-Z0-9]")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_BLOCK = re.compile(rf"({_KEY.pattern})<<([^\s=]+)")


def variable(name: str) -> str:
    """The environment variable of an input."""
    return "INPUT_" + _NOT_IN_NAMES.sub("_", name.upper())


def environment(task: Task, context: Context, outputs: Path) -> dict[str, str]:
    """A script's whole environment: what the agent passes of its own, the order's, and the task's.

    Raises:
        CannotRunError: an input cannot be in an environment.
    """
    found = dict(context.environment)
    found["MUSTER_ORDER"] = context.order
    found["MUSTER_JOB"] = context.job
    found["MUSTER_ELEMENT"] = context.element
    found["MUSTER_ATTEMPT"] = str(context.attempt)
    found["MUSTER_OUTPUTS"] = str(outputs)
    found["MUSTER_INPUTS"] = _write_inputs(context) if context.inputs or context.owner else _NO_INPUTS
    if context.inputs:
        found.update(_variables(context.inputs))
    found.update(task.env)
    return found


def _variables(inputs: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    total = 0
    for name, value in inputs.items():
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        if "\0" in text:
            raise CannotRunError(f"input {name!r} has a NUL character, which no environment can hold")
        size = len(text.encode())
        if size > MAX_VALUE or total + size > MAX_VALUES:
            continue
        total += size
        found[variable(name)] = text
    return found


def _write_inputs(context: Context) -> str:
    data = msgspec.json.encode(dict(context.inputs))
    return str(write_file(context.folder(), f".inputs-{context.job}", data, 0o600, context.owner))


def read_outputs(place: Path) -> dict[str, Any]:
    """What the script said in its outputs file; nothing if it made none.

    Raises:
        ValueError: with the line that is neither `key=value` nor a JSON object.
    """
    try:
        handle = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ValueError(f"cannot read $MUSTER_OUTPUTS: {error.strerror}") from None
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:  # a second name could be of another's file
        os.close(handle)
        raise ValueError("$MUSTER_OUTPUTS is no longer a file")
    with os.fdopen(handle, "rb") as file:
        data = file.read(MAX_OUTPUTS + 1)
    if len(data) > MAX_OUTPUTS:
        raise ValueError(f"$MUSTER_OUTPUTS is larger than {MAX_OUTPUTS // 1024} KB")
    return parse_outputs(data)


def parse_outputs(data: bytes) -> dict[str, Any]:
    """What the lines of an outputs file say, each key once.

    A line is `key=value`, the value as JSON in its canonical form, otherwise text; or a JSON object; or `key<<END`, and
    the text is all lines down to one that is `END`.

    Raises:
        ValueError: with the number of the line that is none of these, or repeats a key.
    """
    found: dict[str, Any] = {}
    lines = enumerate(data.split(b"\n"), 1)
    for number, line in lines:
        if not line.strip():
            continue
        for key, value in _said(_text(line, number), number, lines):
            if key in found:
                raise ValueError(f"$MUSTER_OUTPUTS line {number}: the output {key!r} was set before")
            found[key] = value
    return found


def _said(text: str, number: int, lines: Iterator[tuple[int, bytes]]) -> Iterable[tuple[str, Any]]:
    """The outputs of a line, and of those behind it that belong to it."""
    if text.lstrip().startswith("{"):
        return _object(text, number).items()
    if block := _BLOCK.fullmatch(text):
        return ((block[1], _block(block[2], number, lines)),)
    key, equals, value = text.partition("=")
    if not equals or not _KEY.fullmatch(key.strip()):
        shown = text if len(text) <= 60 else text[:60] + "…"  # noqa: PLR2004 - enough to find it
        raise ValueError(f"$MUSTER_OUTPUTS line {number} is neither key=value nor a JSON object: {shown!r}")
    return ((key.strip(), value_of(value)),)


def _block(end: str, start: int, lines: Iterator[tuple[int, bytes]]) -> str:
    texts: list[str] = []
    for number, line in lines:
        text = _text(line, number)
        if text == end:
            return "\n".join(texts)
        texts.append(text)
    raise ValueError(f"$MUSTER_OUTPUTS line {start}: no line {end!r} ends the text")


def _text(line: bytes, number: int) -> str:
    try:
        return line.decode().removesuffix("\r")
    except UnicodeDecodeError:
        raise ValueError(f"$MUSTER_OUTPUTS line {number} is not UTF-8") from None


def _object(text: str, number: int) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"$MUSTER_OUTPUTS line {number} is not a JSON object: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"$MUSTER_OUTPUTS line {number} is not a JSON object")  # noqa: TRY004 - the data is wrong
    return value
