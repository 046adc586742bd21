"""Plain values to strict structs, with everything that is wrong reported at once.

msgspec builds the struct, but stops at the first error; so where it fails, this walks value and type
side by side and reports everything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import inspect

from muster.blueprints.paths import Path, split
from muster.blueprints.suggest import did_you_mean


class Fault(NamedTuple):
    """One thing wrong, and where."""

    path: Path
    message: str
    hint: str = ""
    at_key: bool = False
    """The field's name is wrong, not its value."""


T = TypeVar("T", bound=msgspec.Struct)


def build(kind: type[T], value: Any) -> tuple[T | None, list[Fault]]:
    """The struct, or everything that keeps the value from being one."""
    try:
        return msgspec.convert(value, kind), []
    except msgspec.ValidationError as error:
        faults = list(_walk(value, _type(kind), ()))
        if faults:
            return None, faults
        message, _, place = str(error).partition(" - at `$")
        return None, [Fault(split(place.rstrip("`").lstrip(".")), message)]


@lru_cache(maxsize=64)
def _type(kind: type[msgspec.Struct]) -> inspect.Type:
    return inspect.type_info(kind)


def _walk(value: Any, kind: inspect.Type, path: Path) -> Iterator[Fault]:
    if isinstance(kind, inspect.Metadata):  # a type with a description
        kind = kind.type
    if isinstance(kind, inspect.StructType):
        yield from _walk_struct(value, kind, path)
    elif isinstance(kind, inspect.UnionType):
        yield from _walk_union(value, kind, path)
    elif isinstance(kind, inspect.DictType):
        if not isinstance(value, dict):
            yield _mismatch(value, "fields (name: value)", path)
            return
        for key, inner in value.items():
            yield from _walk(inner, kind.value_type, (*path, key))
    elif isinstance(kind, inspect.ListType | inspect.VarTupleType):
        if not isinstance(value, list):
            yield _mismatch(value, "a list", path)
            return
        for place, inner in enumerate(value):
            yield from _walk(inner, kind.item_type, (*path, place))
    else:
        yield from _walk_leaf(value, kind, path)


def _walk_struct(value: Any, kind: inspect.StructType, path: Path) -> Iterator[Fault]:
    if not isinstance(value, dict):
        yield _mismatch(value, "fields (name: value)", path)
        return
    fields = {field.encode_name: field for field in kind.fields}
    for key, inner in value.items():
        if key in fields:
            yield from _walk(inner, fields[key].type, (*path, key))
        else:
            hint = did_you_mean(key, fields)
            yield Fault((*path, key), f"there is no field {key!r} here", hint, at_key=True)
    for name, field in fields.items():
        if field.required and name not in value:
            yield Fault(path, f"the field {name!r} is missing")


def _walk_union(value: Any, kind: inspect.UnionType, path: Path) -> Iterator[Fault]:
    if value is None and kind.includes_none:
        return
    inner = [each for each in kind.types if not isinstance(each, inspect.NoneType)]
    found = [list(_walk(value, each, path)) for each in inner]
    if all(found):  # the alternative of the right type is meant: its faults are inside the value
        yield from min(found, key=lambda faults: faults[0].path == path)


_LEAVES: tuple[tuple[type[inspect.Type], tuple[type, ...], str], ...] = (
    (inspect.StrType, (str,), "text"),
    (inspect.BoolType, (bool,), "true or false"),
    (inspect.IntType, (int,), "a whole number"),
    (inspect.FloatType, (int, float), "a number"),
)


def _walk_leaf(value: Any, kind: inspect.Type, path: Path) -> Iterator[Fault]:
    for type_, accepted, words in _LEAVES:
        if isinstance(kind, type_):
            if not isinstance(value, accepted) or (isinstance(value, bool) and bool not in accepted):
                yield _mismatch(value, words, path)
            else:
                yield from _walk_bounds(value, kind, path)
            return
    choices = _choices(kind)
    if choices and value not in choices:
        hint = did_you_mean(value, choices) if isinstance(value, str) else f"it may be {' or '.join(choices)}"
        yield Fault(path, f"{_shown(value)} is not possible here", hint)


def _choices(kind: inspect.Type) -> list[str]:
    if isinstance(kind, inspect.LiteralType):
        return [str(each) for each in kind.values]
    if isinstance(kind, inspect.EnumType):
        return [str(each.value) for each in kind.cls]
    return []


def _walk_bounds(value: Any, kind: inspect.Type, path: Path) -> Iterator[Fault]:
    if (low := getattr(kind, "ge", None)) is not None and value < low:
        yield Fault(path, f"{value} is less than {low}")
    if (high := getattr(kind, "le", None)) is not None and value > high:
        yield Fault(path, f"{value} is more than {high}")
    if (longest := getattr(kind, "max_length", None)) is not None and len(value) > longest:
        yield Fault(path, f"longer than {longest} characters")
    if (pattern := getattr(kind, "pattern", None)) is not None and not re.search(pattern, value):
        yield Fault(path, f"{value!r} does not match {pattern}")


def _mismatch(value: Any, wanted: str, path: Path) -> Fault:
    hint = ""
    if wanted == "text" and isinstance(value, bool | int | float):
        hint = f'put it in quotes: "{str(value).lower() if isinstance(value, bool) else value}"'
    return Fault(path, f"expected {wanted}, got {_shown(value)}", hint)


def _shown(value: Any) -> str:
    """A value in words."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    return "a list" if isinstance(value, list) else "fields"
