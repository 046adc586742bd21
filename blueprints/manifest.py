"""Manifests: text to checked structs, with everything that is wrong reported at once, each with its place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from muster.blueprints import paths, strict
from muster.blueprints.objects import element_kinds, object_kinds
from muster.blueprints.objects.base import Catalog, Manifest
from muster.blueprints.suggest import did_you_mean
from muster.blueprints.yaml_lines import Document, Mark, mark_of, parse
from muster.mesh import names
from muster.mesh.errors import InvalidError, Problem, TooLargeError
from muster.mesh.settings import MAX_BODY


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """One manifest as it was read."""

    kind: str
    name: str
    manifest: Manifest
    raw: dict[str, Any]
    """As it was written, plain JSON."""
    file: str = ""
    lines: Mapping[paths.Path, Mark] = {}
    """The place of each value."""
    start: paths.Path = ()
    """Where the manifest starts in its document (one may hold a list of manifests)."""


def load(text: str, file: str = "") -> list[Loaded]:
    """Every manifest in a YAML or JSON text.

    Raises:
        InvalidError: with all problems, each with its file, line, column and path.
        TooLargeError: the text is longer than 8 MB.
    """
    if len(text) > MAX_BODY:
        raise TooLargeError(f"{file or 'the text'} is larger than {MAX_BODY // 1024**2} MB")
    loaded: list[Loaded] = []
    problems: list[Problem] = []
    for document in parse(text):
        problems += [msgspec.structs.replace(problem, file=file) for problem in document.problems]
        if document.value is None:
            continue
        for value, start in _manifests(document):
            source = _Source(file, document.marks, start)
            found, faults = _build(value)
            problems += [source.problem(fault) for fault in faults]
            if found is not None:
                loaded.append(
                    Loaded(
                        kind=found.kind,
                        name=found.name,
                        manifest=found,
                        raw=value,
                        file=file,
                        lines=document.marks,
                        start=start,
                    )
                )
    if not loaded and not problems:
        problems.append(Problem(file=file, message="no manifest in it"))
    if problems:
        raise _invalid(problems)
    return loaded


def decode(raw: Mapping[str, Any]) -> Manifest:
    """The struct of one manifest.

    Raises:
        InvalidError: with all problems.
    """
    found, faults = _build(raw)
    if found is None or faults:
        source = _Source("", {}, ())
        raise _invalid([source.problem(fault) for fault in faults])
    return found


def completed(document: Loaded, before: Mapping[str, Any]) -> Loaded:
    """The document with the values of `before` for the fields that it leaves out.  Labels are one value.

    Raises:
        InvalidError: the two do not make a valid manifest.
    """
    raw = _merged(before, document.raw)
    return msgspec.structs.replace(document, raw=raw, manifest=decode(raw))


def _merged(before: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**before, **given}
    for key, value in given.items():
        older = before.get(key)
        if key != "labels" and isinstance(value, Mapping) and isinstance(older, Mapping):
            merged[key] = _merged(older, value)
    return merged


def check_all(loaded: Iterable[Loaded], catalog: Catalog) -> None:
    """Everything beyond types: references, expressions, templates, schemas, cycles of child orders.

    What is applied together sees each other.

    Raises:
        InvalidError: with all problems.
    """
    every = list(loaded)
    seen = Overlay(every, catalog)
    problems: list[Problem] = []
    for one in every:
        kind = object_kinds()[one.kind]
        problems += [_placed(one, problem) for problem in (*_names(one, seen), *kind.check(one.manifest, seen))]
    if problems:
        raise _invalid(problems)


class Overlay:
    """A catalog with the manifests that are being applied on top."""

    def __init__(self, loaded: Iterable[Loaded], catalog: Catalog) -> None:
        self._catalog = catalog
        self.first: dict[tuple[str, str], Loaded] = {}
        for one in loaded:
            self.first.setdefault((one.kind, one.name), one)

    def get(self, kind: str, name: str) -> Manifest | None:
        """One object, or None if there is none of that name."""
        one = self.first.get((kind, name))
        return one.manifest if one is not None else self._catalog.get(kind, name)

    def all(self, kind: str) -> Iterable[Manifest]:
        """All objects of a kind."""
        yield from (one.manifest for one in self.first.values() if one.kind == kind)
        yield from (old for old in self._catalog.all(kind) if (kind, old.name) not in self.first)


def _names(one: Loaded, seen: Overlay) -> Iterator[Problem]:
    """Two documents of one kind and name, and one name for two elements."""
    first = seen.first[one.kind, one.name]
    if first is not one:
        mark = mark_of(first.lines, first.start)
        where = f"{first.file or 'the same text'}{f':{mark.line}' if mark else ''}"
        yield Problem(path="name", message=f"{one.kind} {one.name!r} is here twice; first in {where}")
    if one.kind in element_kinds():
        for kind in element_kinds():
            if kind != one.kind and seen.get(kind, one.name) is not None:
                message = f"there is already a {kind} {one.name!r}; names are unique over all elements"
                yield Problem(path="name", message=message)


def _manifests(document: Document) -> Iterator[tuple[Any, paths.Path]]:
    if isinstance(document.value, list):
        yield from ((value, (place,)) for place, value in enumerate(document.value))
    else:
        yield document.value, ()


def _build(value: Any) -> tuple[Manifest | None, list[strict.Fault]]:
    """The struct of one manifest, or what keeps it from being one."""
    if not isinstance(value, Mapping):
        return None, [strict.Fault((), "expected a manifest: fields with `kind` and `name`")]
    kinds = object_kinds()
    kind = value.get("kind")
    if not isinstance(kind, str) or kind not in kinds:
        if kind is None:
            return None, [strict.Fault((), "the field 'kind' is missing", f"it may be {', '.join(sorted(kinds))}")]
        return None, [strict.Fault(("kind",), f"there is no kind {kind!r}", did_you_mean(str(kind), kinds))]
    found, faults = strict.build(kinds[kind].manifest, dict(value))
    name = value.get("name")
    if isinstance(name, str) and not names.is_name(name):
        faults.append(strict.Fault(("name",), f"{name[:80]!r} is not a name", names.NAME_RULE))
    return (None if faults else found), faults


class _Source:
    """Where a manifest was read."""

    def __init__(self, file: str, marks: Mapping[paths.Path, Mark], start: paths.Path) -> None:
        self.file, self.marks, self.start = file, marks, start

    def problem(self, fault: strict.Fault) -> Problem:
        mark = mark_of(self.marks, (*self.start, *fault.path), key=fault.at_key)
        return Problem(
            message=fault.message,
            path=paths.join("", *fault.path),
            file=self.file,
            line=mark.line if mark else 0,
            column=mark.column if mark else 0,
            hint=fault.hint,
        )


def _placed(one: Loaded, problem: Problem) -> Problem:
    """A check's problem with its place in the file.

    A line and column that it has already are those inside the text at its path (an expression's).
    """
    mark = mark_of(one.lines, (*one.start, *paths.split(problem.path)))
    if mark is None:
        return msgspec.structs.replace(problem, file=one.file)
    line, column = mark.line, mark.column
    if problem.line:
        block = mark.style in {"|", ">"}
        line += problem.line - 1 + block
        if not block and problem.line == 1:
            column += problem.column - 1 + (mark.style != "")
        else:
            column = problem.column
    return msgspec.structs.replace(problem, file=one.file, line=line, column=column)


def _invalid(problems: list[Problem]) -> InvalidError:
    if len(problems) == 1:
        return InvalidError("the manifest is not valid", *problems)
    return InvalidError(f"the manifests are not valid: {len(problems)} problems", *problems)
