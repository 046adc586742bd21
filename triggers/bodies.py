"""Parses bodies as JSON, the fields of a form, or text: by their type or, if that says little, by their start."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal
from urllib.parse import parse_qsl

import msgspec

from muster.mesh import nesting
from muster.mesh.errors import InvalidError
from muster.triggers.charsets import decoded, in_utf8, is_utf8_error, without_half_characters

MOST_FIELDS: Final = 1000
"""Fields of a form; a form with more is refused as an attack."""

FORM: Final = "application/x-www-form-urlencoded"
MULTIPART: Final = "multipart/form-data"

BodyKind = Literal["auto", "json", "form", "text"]
"""The values of a trigger's `body`."""

_SEQUENCES: Final = ("ndjson", "jsonl", "json-seq", "jsonlines")
"""Types with `json` in their name whose bodies hold many values, or another language."""


def parsed(data: bytes, content_type: str, kind: BodyKind = "auto") -> Any:
    """Returns the body as JSON data: a JSON value, the fields of a form, or text; None if it is empty.

    Raises:
        InvalidError: the body does not match its type, or the trigger's `body`.
    """
    if not data:
        return None
    media_type = content_type.partition(";")[0].strip().lower()
    match _read_as(media_type, data) if kind == "auto" else kind:
        case "json":
            return from_json(data, content_type)
        case "text":
            return decoded(data, content_type)
        case "form":
            return _multipart(data, content_type) if media_type == MULTIPART else fields(data)
        case _:
            return _undeclared(data, content_type)


def _read_as(media_type: str, data: bytes) -> str:
    """Returns how to parse a type; empty if the type does not say."""
    # `curl -d '{…}'` declares a form; no form starts like this, because a form escapes brackets.
    if is_json(media_type) or (media_type == FORM and data[:64].lstrip()[:1] in {b"{", b"["}):
        return "json"
    return "form" if media_type in {FORM, MULTIPART} else ""


def is_json(media_type: str) -> bool:
    """Returns whether a type is JSON: `application/json`, `text/json`, `application/x-amz-json-1.1`, `…+json`."""
    subtype = media_type.partition("/")[2]
    return "json" in subtype and not any(map(subtype.__contains__, _SEQUENCES))


def _undeclared(data: bytes, content_type: str) -> Any:
    """Parses a body of unknown type: as JSON if all of it parses and it is not a single number or word; else as text.

    Without any type, a body that starts like an object must be one, and a single value is JSON too.
    """
    is_unnamed = content_type in {"", "application/octet-stream"}
    text = data if is_unnamed else in_utf8(data, content_type)
    start = text.removeprefix(_BOM).lstrip()[:1]
    if start == b"{" and is_unnamed:
        return from_json(data, content_type)
    if start in {b"{", b"["} or is_unnamed:
        try:
            return from_json(data, content_type)
        except InvalidError as error:
            if nesting.TOO_DEEP in error.detail:
                raise
    return decoded(data, content_type)


_BOM: Final = b"\xef\xbb\xbf"


def from_json(data: bytes, content_type: str = "") -> Any:
    """Returns the value of a JSON text (RFC 8259), in UTF-8 unless a byte order mark or the type's charset differs.

    An unpaired surrogate becomes U+FFFD, because text cannot hold it.

    Raises:
        InvalidError: the text is malformed (with the place), or nested too deeply.
    """
    text = in_utf8(data, content_type)
    try:
        try:
            return nesting.from_json(text)
        except msgspec.DecodeError:
            whole = without_half_characters(text)
            if whole is None:
                raise
            return nesting.from_json(whole)
    except RecursionError:
        raise InvalidError(f"the body is {nesting.TOO_DEEP}") from None
    except (UnicodeDecodeError, msgspec.DecodeError) as error:
        if is_utf8_error(error):
            raise InvalidError(f"the body is not valid JSON: it is not UTF-8: {error}") from None
        why = str(error) if text.strip() else "it is empty"
        raise InvalidError(f"the body ({len(data)} bytes) is not valid JSON: {why}") from None


def fields(data: bytes) -> dict[str, Any]:
    """Returns the fields of a form by name; a repeated field becomes a list.

    Raises:
        InvalidError: the body is not a form.
    """
    try:
        pairs = parse_qsl(
            data.decode(), keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS, separator="&"
        )
    except UnicodeDecodeError:
        raise InvalidError("the body's form is not UTF-8") from None
    except ValueError as error:
        raise InvalidError(f"the body is not a form: {error}") from None
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
    """Returns text fields as text, and files as their metadata, because an order does not store files."""
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
    except multipart.MultipartError as error:
        raise InvalidError(f"the body is not a form: {error}") from None
    return _together(pairs)


def _field(segment: Any, content: bytes) -> Any:
    if segment.filename is None:
        return decoded(content, f"text/plain; charset={segment.charset or 'utf-8'}")
    return {"filename": segment.filename, "content_type": segment.content_type or "", "size": len(content)}
