"""YAML and JSON text to plain values, with the line and column of each.

Built on PyYAML's event stream, not on its loaders: no object is ever constructed, deep nesting and
alias bombs end at a limit, and plain scalars are read as in JSON (a subset of YAML 1.2's core
schema).  So `on`, `yes`, `010`, `1:30` and `2024-01-01` stay text.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
import yaml

from muster.blueprints.paths import Path, join
from muster.blueprints.scalars import fits, plain_value
from muster.mesh.errors import Problem

MAX_DEPTH = 100
MAX_NODES = 1_000_000
"""Of one text, with aliases expanded."""

_TAGS = {f"tag:yaml.org,2002:{name}": name for name in ("str", "int", "float", "bool", "null", "map", "seq")}


class Mark(NamedTuple):
    """The place of something, counted from 1, and for text how it is written (`|`, `>`, `'`, `"` or nothing)."""

    line: int
    column: int
    style: str = ""


class Document(NamedTuple):
    """One document."""

    value: Any
    marks: Mapping[Path, Mark]
    problems: tuple[Problem, ...]
    """With line and column; the value is as good as it could be read."""


def parse(text: str) -> list[Document]:
    """All documents in the text that hold something.

    A syntax error ends the list with a document that has nothing but the problem.
    """
    text = text.removeprefix("\ufeff")
    if text.lstrip()[:1] in {"{", "["}:
        documents = _parse_json(text)
        if documents is not None:
            return documents
    return list(_documents(text))


def _parse_json(text: str) -> list[Document] | None:
    """JSON that YAML reads differently (tabs, escapes) takes its values from JSON and its marks from YAML.

    Both are held to the same limits, of which JSON's decoder knows none.
    """
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return None
    documents = list(_documents(text.replace("\t", " ")))
    if len(documents) == 1 and documents[0].value == value:
        return documents
    marks = documents[0].marks if documents else {}
    problems = documents[0].problems if marks else ()
    return [Document(value, marks, problems or tuple(_beyond_limits(value, marks)))]


def _beyond_limits(value: Any, marks: Mapping[Path, Mark]) -> Iterator[Problem]:
    """What is wrong with a decoded value; it may be deeper than a function can call itself."""
    waiting: list[tuple[Path, Any]] = [((), value)]
    nodes = 0
    while waiting:
        path, inner = waiting.pop()
        nodes += 1
        message = _TOO_DEEP if len(path) > MAX_DEPTH else _TOO_MANY if nodes > MAX_NODES else ""
        if message:
            yield _at(message, path[:MAX_DEPTH], marks)
            return
        if isinstance(inner, dict):
            waiting += (((*path, name), each) for name, each in inner.items())
        elif isinstance(inner, list):
            waiting += (((*path, place), each) for place, each in enumerate(inner))
        elif isinstance(inner, int) and not fits(inner):
            yield _at(_TOO_LARGE, path, marks, _QUOTE)


def _at(message: str, path: Path, marks: Mapping[Path, Mark], hint: str = "") -> Problem:
    mark = mark_of(marks, path)
    line, column = (mark.line, mark.column) if mark else (0, 0)
    return Problem(message=message, path=join("", *path), line=line, column=column, hint=hint)


_TOO_DEEP = f"more than {MAX_DEPTH} levels deep"
_TOO_MANY = f"more than {MAX_NODES:,} values, aliases expanded"
_TOO_LARGE = "the number does not fit in 64 bits"
_QUOTE = 'put it in quotes: "…"'


def _documents(text: str) -> Iterator[Document]:
    reader: _Reader | None = None
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    nodes = 0
    try:
        events = yaml.parse(text, Loader=loader)
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                reader = _Reader(events, nodes)
                value = reader.read(next(events), (), 0)
                nodes = reader.nodes
                if value is not None or reader.problems:
                    yield Document(value, reader.marks, tuple(reader.problems))
    except yaml.YAMLError as error:
        earlier = reader.problems if reader else []
        yield Document(None, {}, (*earlier, _syntax_problem(_first_problem(text, error, loader))))


def _first_problem(text: str, error: yaml.YAMLError, loader: Any) -> yaml.YAMLError:
    """The limit of ours that the text passes before the place of the error, or else the error.

    PyYAML scans ahead of the events that it delivers, and has limits of its own, with words that change by release.
    """
    mark = getattr(error, "problem_mark", None)
    if mark is None or isinstance(error, _TooMuchError):
        return error
    try:
        events = yaml.parse(text[: mark.index], Loader=loader)
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                _Reader(events, 0).read(next(events), (), 0)
    except _TooMuchError as limit:
        return limit
    except yaml.YAMLError:
        return error
    return error


def _syntax_problem(error: yaml.YAMLError) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    message = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error).split("\n", 1)[0]
    context = getattr(error, "context", None)
    return Problem(
        message=f"not YAML: {f'{context}, ' if context else ''}{message}",
        line=mark.line + 1 if mark else 0,
        column=mark.column + 1 if mark else 0,
    )


class _TooMuchError(yaml.YAMLError):
    """A limit was passed; reading cannot continue."""

    def __init__(self, problem: str, mark: Any) -> None:
        super().__init__(problem)
        self.problem = problem
        self.problem_mark = mark


class _Anchor(NamedTuple):
    """What an alias refers to."""

    value: Any
    nodes: int
    height: int
    """Levels inside it."""


class _Reader:
    """Reads one document's events."""

    def __init__(self, events: Iterator[Any], nodes: int) -> None:
        self.events = events
        self.nodes = nodes
        self.marks: dict[Path, Mark] = {}
        self.problems: list[Problem] = []
        self.anchors: dict[str, _Anchor] = {}
        self.deepest = 0
        """Of the value that is being read."""

    def read(self, event: Any, path: Path, depth: int) -> Any:
        """The value that starts with `event`."""
        before = self.nodes
        self._count(1, event)
        mark = event.start_mark
        self.marks[path] = Mark(mark.line + 1, mark.column + 1, getattr(event, "style", None) or "")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, path, depth)
        around, self.deepest = self.deepest, 0
        self._reach(depth, event)
        value: Any
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event, path)
        elif isinstance(event, yaml.SequenceStartEvent):
            self._check_tag(event, path, "seq")
            value = self._sequence(path, depth)
        else:
            self._check_tag(event, path, "map")
            value = self._mapping(path, depth)
        if event.anchor is not None:
            self.anchors[event.anchor] = _Anchor(value, self.nodes - before, self.deepest - depth)
        self.deepest = max(around, self.deepest)
        return value

    def _reach(self, depth: int, event: Any) -> None:
        self.deepest = max(self.deepest, depth)
        if depth > MAX_DEPTH:
            raise _TooMuchError(_TOO_DEEP, event.start_mark)

    def _count(self, nodes: int, event: Any) -> None:
        self.nodes += nodes
        if self.nodes > MAX_NODES:
            raise _TooMuchError(_TOO_MANY, event.start_mark)

    def _alias(self, event: Any, path: Path, depth: int) -> Any:
        if event.anchor not in self.anchors:
            self._problem(event, path, f"alias *{event.anchor} has no anchor before it")
            return None
        anchor = self.anchors[event.anchor]
        self._count(anchor.nodes, event)
        self._reach(depth + anchor.height, event)
        return anchor.value

    def _sequence(self, path: Path, depth: int) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self.read(event, (*path, len(items)), depth + 1))
        return items

    def _mapping(self, path: Path, depth: int) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                self._problem(event, path, "a field's name must be text")
                self.read(event, (*path, "?"), depth + 1)
                self.read(next(self.events), (*path, "?"), depth + 1)
                continue
            key = event.value
            inner = (*path, key)
            if key in fields:
                self._problem(event, inner, "is here twice; a later one would hide the earlier")
            start: Any = event.start_mark
            value = self.read(next(self.events), inner, depth + 1)
            if isinstance(value, dict | list) and self.marks[inner].style == "":
                self.marks[inner] = Mark(start.line + 1, start.column + 1)  # a block's place is its field's name
            self.marks.setdefault((*path, key, _KEY), Mark(start.line + 1, start.column + 1))
            fields[key] = value
        return fields

    def _scalar(self, event: Any, path: Path) -> Any:
        plain = event.implicit[0]
        if event.tag is None:
            return self._number(event, path) if plain else event.value
        name = self._check_tag(event, path, "scalar")
        if name in {"str", ""}:
            return event.value
        value = self._number(event, path)
        wanted: dict[str, Any] = {"int": int, "float": (int, float), "bool": bool, "null": type(None)}
        if name not in wanted or not isinstance(value, wanted[name]):
            self._problem(event, path, f"{event.value!r} does not fit its tag !!{name}")
        return value

    def _number(self, event: Any, path: Path) -> Any:
        value = plain_value(event.value)
        if isinstance(value, int) and not fits(value):
            self._problem(event, path, _TOO_LARGE, _QUOTE)
        if isinstance(value, float) and not math.isfinite(value):
            self._problem(event, path, "the number is too large", _QUOTE)
            return 0.0
        return value

    def _check_tag(self, event: Any, path: Path, kind: str) -> str:
        """The short name of the event's tag; a tag that JSON has no value for is a problem."""
        if event.tag in {None, "!"}:
            return ""
        name = _TAGS.get(event.tag, "")
        if not name or kind not in {"scalar", name}:
            self._problem(event, path, f"the tag {event.tag} means nothing here", "leave it out")
        return name

    def _problem(self, event: Any, path: Path, message: str, hint: str = "") -> None:
        mark = event.start_mark
        self.problems.append(
            Problem(message=message, path=join("", *path), line=mark.line + 1, column=mark.column + 1, hint=hint)
        )


_KEY = -1
"""Follows a field's path for the place of its name."""


def mark_of(marks: Mapping[Path, Mark], path: Path, *, key: bool = False) -> Mark | None:
    """Returns the place of the value at `path` (with `key`, of its name), or else of the nearest value around it."""
    if key and (mark := marks.get((*path, _KEY))) is not None:
        return mark
    while path and path not in marks:
        path = path[:-1]
    return marks.get(path)
