"""The `with:` of a kind of task as a strict struct."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from muster.blueprints import strict
from muster.blueprints.definition import Task
from muster.blueprints.paths import join
from muster.blueprints.templates import is_template
from muster.mesh.errors import Problem
from muster.mesh.structs import Wire


class Fields(Wire):
    """Base of what `with:` may say."""


F = TypeVar("F", bound=Fields)

SCRIPT_ONLY = ("run", "file", "env", "cwd", "files")
"""Fields of a task that only `uses: script` reads."""


def check_fields(kind: type[Fields], task: Task, path: str) -> Iterator[Problem]:
    """Fields that `with:` does not have, of a wrong type, or missing; and fields that only a script has.

    A text that is a template may become anything, so its type is not checked.
    """
    _, faults = strict.build(kind, task.with_)
    for fault in faults:
        value = _value_at(task.with_, fault.path)
        if fault.at_key or not (isinstance(value, str) and is_template(value)):
            place = join(join(path, "with"), *fault.path)
            yield Problem(path=place, message=fault.message, hint=fault.hint)
    for name in SCRIPT_ONLY:
        if getattr(task, name):
            yield Problem(
                path=join(path, name), message=f"`{name}` is for scripts; `uses: {task.uses}` does not read it"
            )


def read_fields(kind: type[F], task: Task) -> F | str:
    """The filled-in `with:`, or what is wrong with it."""
    found, faults = strict.build(kind, task.with_)
    if found is None:
        return "; ".join(f"{join('with', *fault.path)}: {fault.message}" for fault in faults)
    return found


def _value_at(value: Any, path: tuple[str | int, ...]) -> Any:
    for part in path:
        try:
            value = value[part]
        except (LookupError, TypeError):
            return None
    return value
