"""Filters and functions of templates whose results could grow without bound, held to limits."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from types import GeneratorType
from typing import Any

from jinja2 import Undefined
from jinja2.exceptions import SecurityError
from jinja2.filters import do_round

from muster.blueprints.inner_texts import from_json, text_of_base64

_MAX_RANGE = 10_000
_MAX_TEXT = 1024 * 1024
_MAX_WIDTH = 200
_MAX_DIGITS = 20


def must_be_there(value: Any) -> None:
    """Raise what a missing value raises when it is used, with its name."""
    if isinstance(value, Undefined):
        str(value)


def number_range(*arguments: int) -> range:
    """`range` of not too many numbers."""
    result = range(*arguments)
    if len(result) > _MAX_RANGE:
        raise SecurityError(f"range() gives at most {_MAX_RANGE} numbers")
    return result


def _to_json(value: Any, indent: int | None = None) -> str:
    must_be_there(value)
    width = None if indent is None else max(0, min(int(indent), _MAX_WIDTH))
    return json.dumps(plain(value), ensure_ascii=False, indent=width)


def _indent(text: Any, width: int = 4, first: bool = False) -> str:
    space = " " * max(0, min(int(width), _MAX_WIDTH))
    lines = str(text).splitlines(keepends=True)
    return "".join(space + line if (place or first) and line.strip() else line for place, line in enumerate(lines))


def _round(value: Any, precision: int = 0, method: Any = "common") -> float:
    must_be_there(value)
    return do_round(value, max(-_MAX_DIGITS, min(int(precision), _MAX_DIGITS)), method)


def _replace(text: Any, old: Any, new: Any) -> str:
    whole, before, after = str(text), str(old), str(new)
    if not before:
        raise SecurityError("replace needs something to look for")
    if len(whole) + whole.count(before) * len(after) > _MAX_TEXT:
        raise SecurityError("the text gets too long")
    return whole.replace(before, after)


def concat(values: Iterable[Any]) -> str:
    """`a ~ b`."""
    return _join(values)


def _join(values: Iterable[Any], between: str = "", attribute: str | None = None) -> str:
    must_be_there(values)
    parts: list[str] = []
    size = 0
    for value in values:
        one = value.get(attribute, "") if attribute is not None and isinstance(value, Mapping) else value
        parts.append(str(one))
        size += len(parts[-1]) + len(between)
        if size > _MAX_TEXT:
            raise SecurityError("the text gets too long")
    return str(between).join(parts)


def plain(value: Any) -> Any:
    """The value as plain JSON data."""
    must_be_there(value)
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("the number does not fit in 64 bits")
    if isinstance(value, list | tuple | set | range | GeneratorType) or type(value).__name__.startswith("dict_"):
        return [plain(inner) for inner in value]
    return value


def _from_json(text: Any) -> Any:
    must_be_there(text)
    return from_json(text)


def _b64decode(text: Any) -> str:
    must_be_there(text)
    return text_of_base64(text)


FILTERS: dict[str, Callable[..., Any]] = {
    "b64decode": _b64decode,
    "concat": concat,
    "from_json": _from_json,
    "indent": _indent,
    "join": _join,
    "replace": _replace,
    "round": _round,
    "tojson": _to_json,
}
