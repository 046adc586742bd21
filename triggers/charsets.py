"""Decodes bytes to text: byte order marks, declared charsets, and unpaired surrogates."""

from __future__ import annotations

import codecs
import re
from typing import Final

import msgspec

from muster.mesh.errors import InvalidError

_CHARSET = re.compile(r'charset\s*=\s*"?([\w.:-]{1,40})', re.IGNORECASE)

_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks; that of little-endian UTF-32 starts with that of UTF-16."""

_SPOKEN: Final = re.compile(
    r"utf-?(8|16|32)([_-][lb]e)?|utf-8-sig|ascii|iso8859-\d+|cp\d+|koi8-\w|gb\w+|hz|big5\w*|shift_?ji\w+|euc_\w+"
    r"|iso2022_\w+|mac-\w+|johab|tis-620|ptcp154"
)
"""Python's names of charsets, without codecs that are not charsets (`unicode_escape`) or quadratic (`punycode`)."""

_HALF: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
"""An escape of an unpaired surrogate in JSON (RFC 8259 §8.2)."""

_ASIDE: Final = b"\0\0"
"""A placeholder for an escaped backslash; JSON does not contain these bytes."""


def charset_of(data: bytes, content_type: str) -> str:
    """Returns the charset that the byte order mark or, without one, the type names.

    Raises:
        InvalidError: the charset is unknown.
    """
    for mark, name in _MARKS:
        if data.startswith(mark):
            return name
    found = _CHARSET.search(content_type)
    if found is None:
        return "utf-8"
    try:
        name = codecs.lookup(found[1]).name
    except LookupError:
        name = ""
    if not _SPOKEN.fullmatch(name):
        raise InvalidError(f"the body's charset is unknown: {found[1]!r}")
    return name


def decoded(data: bytes, content_type: str) -> str:
    """Decodes a body.

    Raises:
        InvalidError: the body is not text in its charset.
    """
    charset = charset_of(data, content_type)
    try:
        return data.decode(charset).removeprefix("\ufeff")
    except UnicodeDecodeError:
        raise InvalidError(f"the body is not text in {charset}, JSON or a form") from None


def in_utf8(data: bytes, content_type: str) -> bytes:
    """Returns a body in UTF-8, without a byte order mark.  Valid UTF-8 is unchanged, even if its type differs.

    Many servers declare `charset=ISO-8859-1` for everything, including JSON in UTF-8.

    Raises:
        InvalidError: the body is not text in its charset.
    """
    try:
        charset = charset_of(data, content_type)
    except InvalidError:
        if _is_utf8(data):
            return data
        raise
    if charset.startswith(("utf-16", "utf-32")):
        return _recoded(data, charset)
    if charset in {"utf-8", "utf-8-sig", "ascii"} or _is_utf8(data):
        return data.removeprefix(codecs.BOM_UTF8)
    return _recoded(data, charset)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _recoded(data: bytes, charset: str) -> bytes:
    try:
        return data.decode(charset).removeprefix("\ufeff").encode()
    except UnicodeError:
        raise InvalidError(f"the body is not text in {charset}") from None


def without_half_characters(text: bytes) -> bytes | None:
    """Replaces escapes of unpaired surrogates by U+FFFD; returns None if there are none."""
    if _ASIDE[:1] in text:
        return None
    aside = text.replace(rb"\\", _ASIDE)
    found = _HALF.sub(rb"\\ufffd", aside)
    return None if found == aside else found.replace(_ASIDE, rb"\\")


def is_utf8_error(error: Exception) -> bool:
    """Returns whether an error reports invalid UTF-8."""
    return isinstance(error, UnicodeDecodeError) or (isinstance(error, msgspec.DecodeError) and "UTF-8" in str(error))
