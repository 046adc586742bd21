"""Which of a struct's fields are secrets, and whether any of them is in clear."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import inspect

from muster.blueprints.paths import join
from muster.blueprints.secret import Secret
from muster.mesh.errors import Problem

HINT = "write {env: NAME} or {file: PATH}, where the process finds it"


_LISTS = inspect.ListType | inspect.VarTupleType


def secret_problems(kind: type[msgspec.Struct], given: Any, path: str = "with") -> Iterator[Problem]:
    """Where `given`, which is to be a `kind`, has no proper secret; the message does not show what is there instead."""
    yield from _walk(given, inspect.type_info(kind), path)


def _walk(value: Any, kind: inspect.Type, path: str) -> Iterator[Problem]:
    if isinstance(kind, inspect.StructType) and kind.cls is Secret:
        yield from _check(value, path)
        return
    for inner, its_kind, part in _parts(value, kind):
        yield from _walk(inner, its_kind, join(path, *part))


def _parts(value: Any, kind: inspect.Type) -> Iterator[tuple[Any, inspect.Type, tuple[str | int, ...]]]:
    """What is inside: value, type, and path."""
    if isinstance(kind, inspect.UnionType) and value is not None:
        lists = [inner for inner in kind.types if isinstance(inner, _LISTS)]
        others = [inner for inner in kind.types if inner not in lists]
        yield from ((value, inner, ()) for inner in (lists if lists and isinstance(value, list) else others))
    elif isinstance(kind, inspect.StructType) and isinstance(value, dict):
        fields = {field.encode_name: field.type for field in kind.fields}
        yield from ((inner, fields[name], (name,)) for name, inner in value.items() if name in fields)
    elif isinstance(kind, inspect.DictType) and isinstance(value, dict):
        yield from ((inner, kind.value_type, (str(key),)) for key, inner in value.items())
    elif isinstance(kind, _LISTS) and isinstance(value, list):
        yield from ((inner, kind.item_type, (place,)) for place, inner in enumerate(value))


def _check(value: Any, path: str) -> Iterator[Problem]:
    if not isinstance(value, dict):
        yield Problem(path=path, message="a secret must not be in clear in a manifest", hint=HINT)
    elif sum(isinstance(value.get(place), str) and bool(value[place]) for place in ("env", "file")) != 1:
        yield Problem(path=path, message="a secret is found in exactly one place", hint=HINT)
    elif unknown := [name for name in value if name not in {"env", "file"}]:
        yield Problem(path=path, message=f"there is no field {unknown[0]!r} in a secret", hint=HINT)
