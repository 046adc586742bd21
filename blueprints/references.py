"""Which inputs and tasks a condition or a template reads: a misspelt one is told before anything runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from muster.blueprints.suggest import did_you_mean
from muster.mesh.errors import Problem

VARIABLES = ("inputs", "tasks", "element", "order")
"""What conditions and templates of a task may read."""

TASK_FIELDS = ("state", "outputs", "exit_code", "error")
"""What `tasks.NAME.` leads to."""

ELEMENT_FIELDS = ("name", "kind", "labels", "params", "mode")
ORDER_FIELDS = ("id", "blueprint", "attempt", "labels", "pool", "element")


class Scope(NamedTuple):
    """What an expression may read."""

    inputs: frozenset[str] = frozenset()
    tasks: frozenset[str] = frozenset()
    """Tasks that stand before it."""
    later: frozenset[str] = frozenset()
    """Tasks of the same blueprint that do not."""


# Strings whole, names with dots around them, and brackets with a text in them; anything else is skipped.
_STRING = (
    r"""[rRbB]{0,2}(?:\"\"\"(?:[^\\]|\\.)*?\"\"\"|'''(?:[^\\]|\\.)*?'''|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')"""
)
_TOKEN = re.compile(rf"(?P<string>{_STRING})|(?P<name>[A-Za-z_]\w*)|(?P<other>\S)|(?P<space>\s+)", re.DOTALL)


class _Token(NamedTuple):
    kind: str
    text: str
    start: int


def check_references(text: str, scope: Scope) -> Iterator[Problem]:
    """Each `inputs.NAME` and `tasks.NAME` that `scope` does not have; line and column are counted in the text."""
    tokens = [
        _Token(str(found.lastgroup), found.group(), found.start())
        for found in _TOKEN.finditer(text)
        if found.lastgroup != "space"
    ]
    for place, token in enumerate(tokens):
        if token.kind != "name" or token.text not in VARIABLES or (place and tokens[place - 1].text == "."):
            continue
        member, after = _member(tokens, place + 1)
        if member is None:
            continue
        field, _ = _member(tokens, after)
        problem = unknown(scope, token.text, member, field)
        if problem is not None:
            line = text.count("\n", 0, token.start) + 1
            column = token.start - text.rfind("\n", 0, token.start)
            yield Problem(message=problem[0], mend=problem[1], line=line, column=column)


def _member(tokens: list[_Token], place: int) -> tuple[str | None, int]:
    """The name after `.` or in `["…"]`, and the place behind it."""
    rest = tokens[place : place + 4]
    texts = [token.text for token in rest]
    if texts[:1] == ["."]:
        skip = 2 if texts[1:2] == ["?"] else 1
        if len(rest) > skip and rest[skip].kind == "name":
            return texts[skip], place + skip + 1
    if texts[:1] == ["["]:
        skip = 2 if texts[1:2] == ["?"] else 1
        if len(rest) > skip + 1 and rest[skip].kind == "string" and texts[skip + 1] == "]":
            return texts[skip].strip("rRbB").strip("\"'"), place + skip + 2
    return None, place


def unknown(scope: Scope, variable: str, member: str, field: str | None) -> tuple[str, str] | None:
    """What is wrong with `variable.member.field`, and the mend; None if it may be there."""
    if variable == "inputs":
        return _unknown_input(member, scope)
    if variable == "tasks":
        problem = _unknown_task(member, scope)
        if problem is None and field is not None and field not in TASK_FIELDS:
            return f"there is no `tasks.{member}.{field}`", did_you_mean(field, TASK_FIELDS)
        return problem
    fields = ELEMENT_FIELDS if variable == "element" else ORDER_FIELDS
    if member in fields:
        return None
    return f"there is no `{variable}.{member}`", did_you_mean(member, fields)


def _unknown_input(name: str, scope: Scope) -> tuple[str, str] | None:
    if name in scope.inputs:
        return None
    return f"there is no input {name!r}", did_you_mean(name, scope.inputs) or "declare it under `inputs`"


def _unknown_task(name: str, scope: Scope) -> tuple[str, str] | None:
    if name in scope.tasks:
        return None
    if name in scope.later:
        return f"task {name!r} has not run yet at this place", "move this task behind it"
    return f"there is no task {name!r}", did_you_mean(name, scope.tasks)
