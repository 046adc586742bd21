"""Which inputs and tasks a condition or a template reads: a misspelt one is reported before anything runs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, Final, NamedTuple

from muster.blueprints.paths import join
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

    variables: tuple[str, ...] = VARIABLES

    inputs: frozenset[str] = frozenset()
    tasks: frozenset[str] = frozenset()
    """Tasks that come before it."""
    later: frozenset[str] = frozenset()
    """Tasks of the same blueprint that do not."""


EVENT_SCOPE: Final = Scope(variables=("event",))
"""What a trigger's `when` and `inputs` may read: the event, whose fields are the sender's."""

ITEM_SCOPE: Final = Scope(variables=("event", "item", "index"))
"""The same where `each` gives items."""


Fields = Mapping[str, "Fields | None"]
"""Fields inside each other; None means all that is inside."""

# Strings whole (in raw ones a backslash is itself), comments, and names; of anything else each character.
_QUOTED = r"""\"\"\"(?:[^\\]|\\.)*?\"\"\"|'''(?:[^\\]|\\.)*?'''|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'"""
_RAW = r"""\"\"\".*?\"\"\"|'''.*?'''|"[^"\n]*"|'[^'\n]*'"""
_STRING = rf"""[bB]?[rR][bB]?(?:{_RAW})|[bB]?(?:{_QUOTED})"""
_SPACE = r"\s+|//[^\n]*"
_TOKEN = re.compile(rf"(?P<string>{_STRING})|(?P<name>[A-Za-z_]\w*)|(?P<space>{_SPACE})|(?P<other>\S)", re.DOTALL)


class Token(NamedTuple):
    """A part of an expression: a `string`, a `name`, or any `other` character."""

    kind: str
    text: str
    start: int


class Call(NamedTuple):
    """A function or macro that is called."""

    name: str
    line: int
    column: int


def calls(text: str) -> Iterator[Call]:
    """Each call in an expression."""
    tokens = tokens_of(text)
    for token, after in pairwise(tokens):
        if token.kind == "name" and after.text == "(":
            yield Call(token.text, *_place(text, token))


def check_references(text: str, scope: Scope) -> Iterator[Problem]:
    """Each `inputs.NAME` and `tasks.NAME` that `scope` does not have; line and column are counted in the text."""
    tokens = tokens_of(text)
    for place, token in enumerate(tokens):
        if not _is_variable(tokens, place, scope.variables):
            continue
        member, after = _member(tokens, place + 1)
        if member is None:
            continue
        field, _ = _member(tokens, after)
        problem = unknown(scope, token.text, member, field)
        if problem is not None:
            line, column = _place(text, token)
            yield Problem(message=problem[0], hint=problem[1], line=line, column=column)


def missing_in(text: str, values: Mapping[str, Any], name: str) -> str | None:
    """The path that `text` reads and that ends with a `name` which `values` do not have there: `event.body.ref`."""
    ends = _ends(text, values)
    return next(
        (join(path, member) for path, value, member in ends if isinstance(value, Mapping) and member == name), None
    )


def fieldless_in(text: str, values: Mapping[str, Any]) -> tuple[str, Any] | None:
    """The first path of which `text` reads a field though its value is not a map, and the value."""
    return next(((path, value) for path, value, _ in _ends(text, values) if not isinstance(value, Mapping)), None)


def _ends(text: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """How far each path of `text` leads in `values`: the path, its value, and the member that it does not have."""
    tokens = tokens_of(text)
    for place in range(len(tokens)):
        if not _is_variable(tokens, place, tuple(values)):
            continue
        path, value = tokens[place].text, values[tokens[place].text]
        member, after = _member(tokens, place + 1)
        while member is not None and isinstance(value, Mapping) and member in value:
            path, value = join(path, member), value[member]
            member, after = _member(tokens, after)
        is_call = after < len(tokens) and tokens[after].text == "("
        if member is not None and not is_call:
            yield path, value, member


def reads(text: str, variable: str) -> Fields | None:
    """Which fields of a variable a condition reads; None if it may read all of it."""
    if "\\" in text:  # a field's name may be written with escapes, which nobody undoes here
        return None
    tokens = tokens_of(text)
    fields: dict[str, Any] = {}
    for path in sorted({_path(tokens, at) for at in range(len(tokens)) if _is_variable(tokens, at, (variable,))}):
        if not path:
            return None
        inner: dict[str, Any] | None = fields
        for name in path[:-1]:
            inner = inner.setdefault(name, {}) if inner is not None else None
        if inner is not None:  # else a shorter path has it
            inner[path[-1]] = None
    return fields


def mentions(text: str, variables: tuple[str, ...]) -> bool:
    """Whether an expression reads one of some variables."""
    tokens = tokens_of(text)
    return any(_is_variable(tokens, place, variables) for place in range(len(tokens)))


def path_of(text: str, variables: tuple[str, ...]) -> tuple[str, ...] | None:
    """An expression that is nothing but a path, `event.body["ref"]`, as its names; None for any other."""
    if "\\" in text or "?" in text:
        return None
    tokens = tokens_of(text)
    if not tokens or not _is_variable(tokens, 0, variables):
        return None
    path = [tokens[0].text]
    member, after = _member(tokens, 1)
    while member is not None:
        path.append(member)
        member, after = _member(tokens, after)
    return tuple(path) if after == len(tokens) else None


class Read(NamedTuple):
    """A variable that is read, and the fields inside it that are named."""

    names: tuple[str, ...]
    is_dotted: bool
    """Whether the second name comes after a dot, not in brackets."""
    start: int
    """Where in the text."""


def reads_of(text: str, variable: str) -> Iterator[Read]:
    """Each place at which a variable is read."""
    tokens = tokens_of(text)
    for at, token in enumerate(tokens):
        if _is_variable(tokens, at, (variable,)):
            _, second = _member(tokens, at + 1)
            is_dotted = second < len(tokens) and tokens[second].text == "."
            yield Read(_path(tokens, at), is_dotted, token.start)


def place_of(text: str, start: int) -> tuple[int, int]:
    """Line and column."""
    return text.count("\n", 0, start) + 1, start - text.rfind("\n", 0, start)


def only(value: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    """A value with none but some of its fields."""
    return {
        name: only(value[name], inner) if inner is not None and isinstance(value[name], Mapping) else value[name]
        for name, inner in fields.items()
        if name in value
    }


def _path(tokens: list[Token], at: int) -> tuple[str, ...]:
    """The fields that are read one inside the other, up to a function's name."""
    path: list[str] = []
    member, after = _member(tokens, at + 1)
    while member is not None and not (after < len(tokens) and tokens[after].text == "("):
        path.append(member)
        member, after = _member(tokens, after)
    return tuple(path)


def tokens_of(text: str) -> list[Token]:
    """All parts of an expression."""
    return [
        Token(str(found.lastgroup), found.group(), found.start())
        for found in _TOKEN.finditer(text)
        if found.lastgroup != "space"
    ]


def _place(text: str, token: Token) -> tuple[int, int]:
    return place_of(text, token.start)


def _is_variable(tokens: list[Token], place: int, variables: tuple[str, ...]) -> bool:
    token = tokens[place]
    return token.kind == "name" and token.text in variables and (place == 0 or tokens[place - 1].text != ".")


def _member(tokens: list[Token], place: int) -> tuple[str | None, int]:
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
    """What is wrong with `variable.member.field`, and the hint; None if it may be there."""
    if variable in ITEM_SCOPE.variables:
        return None
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
