"""Request bodies into structs: fast when they are right, and all that is wrong at once when they are not."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from typing import Any, TypeVar

import msgspec

from muster.blueprints.paths import join
from muster.blueprints.strict import build
from muster.mesh.errors import MALFORMED, InvalidError, Problem, UsageError
from muster.mesh.nesting import DEEPEST, TOO_DEEP, check_levels, from_json

T = TypeVar("T", bound=msgspec.Struct)

MOST_PROBLEMS = 50
"""More than these help nobody."""

LONGEST_SHOWN = 80
"""Characters of a key."""

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def decode(kind: type[T], data: bytes, deepest: int = DEEPEST) -> T:
    """The struct in a JSON body.

    Raises:
        UsageError: the body is no JSON, or has more than so many levels.
        InvalidError: it is JSON of another shape, or has a key twice; every problem is listed, with its path.
    """
    try:
        decoded: T = _decoder(kind).decode(data)
        check_levels(data, deepest)
        check_keys(data, _decode(data))
    except msgspec.ValidationError as error:
        raise _explained(kind, data, error) from None
    except MALFORMED as error:
        raise not_json(data, error) from None
    return decoded


def value(data: bytes) -> Any:
    """Returns what a JSON body says, of every shape.

    Raises:
        UsageError: the body is no JSON, or is nested too deeply.
        InvalidError: it has a key twice in one object.
    """
    try:
        found = from_json(data)
    except MALFORMED as error:
        raise not_json(data, error) from None
    check_keys(data, found)
    return found


def check_keys(data: bytes, found: Any) -> None:
    """See that no object of a JSON text has a key twice: the later one would hide the earlier (RFC 8259 §4).

    What was found in the text is written again: two or three microseconds for an order. A hidden field took its
    colon with it; a colon that was written as an escape comes back as itself. Only where the numbers of colons
    differ are the keys read.

    Raises:
        InvalidError: there is one; all are named.
    """
    escaped = data.count(rb"\u003a") + data.count(rb"\u003A") if rb"\u003" in data else 0
    if data.count(b":") + escaped != _encode(found).count(b":") and (twice := _twice(data)):
        problems = [Problem(message=f"the key {key!r} is in one object twice", path=key) for key in twice]
        raise InvalidError("the later of two equal keys would hide the earlier", *problems[:MOST_PROBLEMS])


def _twice(data: bytes) -> list[str]:
    twice: dict[str, None] = {}

    def see(pairs: list[tuple[str, Any]]) -> None:
        if len(dict(pairs)) < len(pairs):
            counts = Counter(key[:LONGEST_SHOWN] for key, _ in pairs)
            twice.update((key, None) for key, count in counts.items() if count > 1)

    json.loads(data, object_pairs_hook=see, parse_int=len, parse_float=len)
    return list(twice)


@cache
def _decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    return msgspec.json.Decoder(kind)


def not_json(data: bytes, error: Exception) -> UsageError:
    """Where a body stops being JSON, in words."""
    if not data.strip():
        return UsageError("the body is empty; send JSON")
    if isinstance(error, RecursionError):
        return UsageError(f"the body is {TOO_DEEP}")
    try:
        json.loads(data.decode())
    except json.JSONDecodeError as found:
        problem = Problem(message=found.msg, line=found.lineno, column=found.colno)
        return UsageError(f"the body is not valid JSON, line {found.lineno} column {found.colno}: {found.msg}", problem)
    except UnicodeDecodeError as found:
        return UsageError(f"the body is not UTF-8: {found.reason} at byte {found.start}")
    except (ValueError, RecursionError):
        pass
    return UsageError(f"the body is not valid JSON: {error}")


def _explained(kind: type[T], data: bytes, error: msgspec.ValidationError) -> InvalidError | UsageError:
    try:
        _, faults = build(kind, msgspec.json.decode(data))
    except MALFORMED as broken:
        return not_json(data, broken)
    problems = [
        Problem(message=fault.message, path=join("", *fault.path), hint=fault.hint) for fault in faults[:MOST_PROBLEMS]
    ] or [Problem(message=str(error))]
    count = f"{len(problems)} things are" if len(problems) > 1 else "something is"
    return InvalidError(f"{count} wrong with the request", *problems)
