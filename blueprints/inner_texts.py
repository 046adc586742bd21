"""Text inside text: JSON in a field, base64 in JSON.  Read by conditions and templates, within bounds.

Senders nest what they pass on: Amazon SNS puts JSON in `Message`, Google Pub/Sub base64 in `message.data`, a form JSON
in a field.
"""

from __future__ import annotations

import base64
import binascii
from contextvars import ContextVar
from typing import Any, Final

import msgspec

from muster.mesh import nesting

MOST_READ: Final = 4 * 1024**2
"""Characters of inner texts in one evaluation: a loop must not read a large one over and over."""

_left: ContextVar[int] = ContextVar("_left", default=MOST_READ)
_PLAIN: Final = str.maketrans("-_", "+/", " \t\r\n")


def begin() -> None:
    """Starts an evaluation."""
    _left.set(MOST_READ)


def from_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is no JSON, nested too deeply, or too much was read in this evaluation.
    """
    _spend(text, "from_json")
    try:
        return nesting.from_json(text.encode() if isinstance(text, str) else bytes(text))
    except RecursionError:
        raise ValueError(f"from_json: the text is {nesting.TOO_DEEP}") from None
    except (msgspec.DecodeError, UnicodeError) as error:
        raise ValueError(f"from_json: the text is not valid JSON: {error}") from None


def bytes_of_base64(text: str) -> bytes:
    """Returns what base64 encodes (RFC 4648), with the letters of URLs too, and with or without `=` at its end.

    Raises:
        ValueError: it is no base64, or too much was read in this evaluation.
    """
    _spend(text, "base64")
    plain = text.translate(_PLAIN).rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("base64: the text is not valid base64") from None


def text_of_base64(text: str) -> str:
    """Returns the text in UTF-8 that base64 encodes.

    Raises:
        ValueError: it is none.
    """
    try:
        return bytes_of_base64(text).decode()
    except UnicodeDecodeError:
        raise ValueError("base64: what it encodes is not text in UTF-8") from None


def _spend(text: Any, reader: str) -> None:
    if not isinstance(text, str | bytes | bytearray):
        given = _KINDS.get(type(text), type(text).__name__)
        raise ValueError(f"{reader} reads a text, not {given}")  # noqa: TRY004 - what both languages report in words
    left = _left.get() - len(text)
    if left < 0:
        raise ValueError(f"{reader}: more than {MOST_READ // 1024**2} MB of text were read in one evaluation")
    _left.set(left)


_KINDS: Final = {dict: "a map", list: "a list", type(None): "null", bool: "true or false", int: "a number"}
