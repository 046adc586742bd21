"""What a body says, by its type: JSON, a form's fields, or text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec

from muster.mesh import nesting
from muster.mesh.errors import InvalidError

MOST_FIELDS: Final = 1000
"""Fields of a form; more is an attack, not a form."""

FORM: Final = "application/x-www-form-urlencoded"
MULTIPART: Final = "multipart/form-data"

_CHARSET = re.compile(r'charset\s*=\s*"?([\w.:-]{1,40})', re.IGNORECASE)


def parsed(data: bytes, content_type: str) -> Any:
    """The body as JSON has it: its value, a form's fields, a text; None if there is nothing.

    Raises:
        InvalidError: it is not what its type says.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if not data:
        return None
    if kind == "application/json" or kind.endswith("+json"):
        return from_json(data)
    if kind == FORM:
        # `curl -d '{…}'` says it sends a form; no form begins so, for a bracket would be escaped.
        return from_json(data) if data.lstrip()[:1] in {b"{", b"["} else fields(data)
    return _multipart(data, content_type) if kind == MULTIPART else _unknown(data, content_type)


def _unknown(data: bytes, content_type: str) -> Any:
    """JSON if it is some or begins as an object does, and its type says nothing else; or text."""
    if content_type in {"", "application/octet-stream"}:
        if data.lstrip()[:1] == b"{":
            return from_json(data)
        with suppress(msgspec.DecodeError, UnicodeDecodeError):
            return _value(data)
    return _text(data, content_type)


def from_json(data: bytes) -> Any:
    """The value of a JSON text (RFC 8259).

    Raises:
        InvalidError: it is none, told with the place; or it is nested too deeply.
    """
    try:
        return _value(data)
    except UnicodeDecodeError as error:
        raise InvalidError(f"the body is not UTF-8: {error.reason} at byte {error.start}") from None
    except msgspec.DecodeError as error:
        why = str(error) if data.strip() else "it is empty"
        raise InvalidError(f"the body ({len(data)} bytes) is not valid JSON: {why}") from None


def _value(data: bytes) -> Any:
    try:
        return nesting.from_json(data)
    except RecursionError:
        raise InvalidError(f"the body is {nesting.TOO_DEEP}") from None


def fields(data: bytes) -> dict[str, Any]:
    """A form's fields by name; one that comes several times is a list.

    Raises:
        InvalidError: it is no form.
    """
    try:
        pairs = parse_qsl(
            data.decode(), keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS, separator="&"
        )
    except UnicodeDecodeError:
        raise InvalidError("the body's form is not UTF-8") from None
    except ValueError as error:
        raise InvalidError(f"the body is no form: {error}") from None
    return _together(pairs)


def _together(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name not in found:
            found[name] = value
        elif isinstance(found[name], list):
            found[name].append(value)
        else:
            found[name] = [found[name], value]
    return found


def _multipart(data: bytes, content_type: str) -> dict[str, Any]:
    """Text fields as text, files as what is known of them: an order is no place for files."""
    import multipart

    _, options = multipart.parse_options_header(content_type)
    pairs: list[tuple[str, Any]] = []
    segment, inside = None, bytearray()
    try:
        with multipart.PushMultipartParser(options.get("boundary", ""), max_segment_count=MOST_FIELDS) as parser:
            for event in parser.parse(data):
                if isinstance(event, multipart.MultipartSegment):
                    segment, inside = event, bytearray()
                elif event is not None:
                    inside += event
                elif segment is not None:
                    pairs.append((segment.name or "", _field(segment, bytes(inside))))
    except (multipart.MultipartError, UnicodeDecodeError, LookupError) as error:
        raise InvalidError(f"the body is no form: {error}") from None
    return _together(pairs)


def _field(segment: Any, content: bytes) -> Any:
    if segment.filename is None:
        return content.decode(segment.charset or "utf-8")
    return {"filename": segment.filename, "content_type": segment.content_type or "", "size": len(content)}


def _text(data: bytes, content_type: str) -> str:
    found = _CHARSET.search(content_type)
    charset = found[1] if found else "utf-8"
    try:
        return data.decode(charset)
    except (UnicodeDecodeError, LookupError):
        raise InvalidError(f"the body is no text in {charset}, no JSON and no form") from None
