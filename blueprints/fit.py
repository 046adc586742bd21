"""What a schema makes of a value that was text: typed on a command line, printed by a script, made by a template.

Text stays text unless it is JSON in its one canonical form (RFC 8785): `1.10`, `3.0`, `1e5` and `007` would come back
as something else, so they do not count as numbers by themselves.  Where a schema is known, it decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from muster.blueprints.scalars import fits
from muster.blueprints.schemas import is_valid


def value_of(text: str) -> Any:
    """The JSON value that the text is, or the text: a number only in its canonical form.

    Arrays and objects are JSON however they are spaced.
    """
    value = _json(text)
    return text if isinstance(value, int | float) and not _is_canonical(value, text) else value


def read(schema: Mapping[str, Any], text: str) -> Any:
    """What a person's text means under a schema; if the schema takes no reading, the most likely one, to be refused."""
    first, value = value_of(text), _json(text)
    return _first_valid(schema, (first, text, value))


def convert(schema: Mapping[str, Any], value: Any) -> Any:
    """A template's value under a schema: text read as JSON, or a scalar written as text, where only that is valid."""
    if isinstance(value, str):
        return _first_valid(schema, (value, _json(value)))
    if isinstance(value, bool | int | float):
        return _first_valid(schema, (value, msgspec.json.encode(value).decode()))
    return value


def with_whole_numbers(schema: Mapping[str, Any], value: Any) -> Any:
    """The value with `3.0` as 3 where the schema says `integer`: they are one to JSON Schema, but not to a script."""
    if isinstance(value, float):
        return int(value) if _wants_integer(schema) and value.is_integer() and fits(int(value)) else value
    if isinstance(value, dict):
        return {name: with_whole_numbers(_field(schema, name), inner) for name, inner in value.items()}
    if isinstance(value, list):
        items = _schema(schema.get("items"))
        return [with_whole_numbers(items, inner) for inner in value] if items else value
    return value


def _wants_integer(schema: Mapping[str, Any]) -> bool:
    """Whether the schema, or one that it is composed of, says `integer` and not `number`."""
    types = schema.get("type", ())
    if types:
        return types == "integer" or (not isinstance(types, str) and "integer" in types and "number" not in types)
    parts = [_schema(part) for word in ("allOf", "anyOf", "oneOf") for part in schema.get(word, ())]
    return any(map(_wants_integer, parts)) and not any(part.get("type") == "number" for part in parts)


def _field(schema: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    properties = _schema(schema.get("properties"))
    return _schema(properties[name] if name in properties else schema.get("additionalProperties"))


def _schema(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _first_valid(schema: Mapping[str, Any], values: tuple[Any, ...]) -> Any:
    return next(_valid(schema, values), values[0])


def _valid(schema: Mapping[str, Any], values: tuple[Any, ...]) -> Iterator[Any]:
    return (value for value in values if is_valid(schema, value))


def _json(text: str) -> Any:
    """The text as JSON; itself if it is none, or a number that not every process can hold."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeEncodeError):
        return text
    return text if isinstance(value, int) and not fits(value) else value


def _is_canonical(value: float, text: str) -> bool:
    if isinstance(value, float):
        return not value.is_integer() and f"{Decimal(repr(value)):f}" == text
    return msgspec.json.encode(value).decode() == text
