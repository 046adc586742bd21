"""How deep JSON may be nested: what goes deeper is turned away where it comes in.

Python's own limit is too late: decoders and encoders count the stack of their caller as well, so one part
read what another one could not write again, and whoever met it next on the record failed.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Any, Final

import msgspec

DEEPEST: Final = 100
"""Levels of what people and programs send; nothing that somebody wrote has so many."""

WRAPPED: Final = DEEPEST + 20
"""Levels of Muster's own messages, which carry it."""

TOO_DEEP: Final = f"nested more than {DEEPEST} levels deep"

_STEP: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_OTHERS: Final = bytes(set(range(256)) - set(_STEP))
_decode = msgspec.json.Decoder().decode


def from_json(text: bytes) -> Any:
    """The value of a JSON text.

    Raises:
        RecursionError: it is nested too deeply.
        msgspec.DecodeError: it is none.
        UnicodeDecodeError: it is not UTF-8.
    """
    value = _decode(text)
    check_levels(text)
    return value


def check_levels(text: bytes, deepest: int = DEEPEST) -> None:
    """See that what was found to be JSON has no more levels of arrays and objects.

    If it has no more brackets than that, it is not inspected further: two counts, half a microsecond.  A short
    one is not counted either: a level takes two bytes.

    Raises:
        RecursionError: it has more.
    """
    if len(text) > 2 * deepest and text.count(b"[") + text.count(b"{") > deepest and _levels(text) > deepest:
        raise RecursionError(TOO_DEEP)


def _levels(text: bytes) -> int:
    unescaped = text.replace(rb"\\", b"").replace(rb"\"", b"")
    brackets = b"".join(unescaped.split(b'"')[::2]).translate(None, _OTHERS)
    return max(accumulate(map(_STEP.__getitem__, brackets)), default=0)
