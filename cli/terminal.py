"""What may reach a terminal: text of others without its control characters, which could redraw all of it."""

from __future__ import annotations

import codecs
import re
import sys
from typing import Final

CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""C0 except line ends and tabs, DEL, and C1 (ECMA-48 §5.2 and §5.3)."""

_BREAK: Final = re.compile(r"[\t\n]")


def clean(text: str) -> str:
    """The text with a replacement character for each control character; lines and tabs stay."""
    return CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def one_line(text: str) -> str:
    """The text, clean and in one line: nobody's reason may pass for a line of ours."""
    return _BREAK.sub(" ", clean(text))


def note(text: str, *, prefix: str = "muster:") -> None:
    """Print a line about our own doing on standard error."""
    sys.stderr.write(f"{prefix} {clean(text)}\n")


class PlainOutput:
    """Strips escape sequences and control characters from bytes that come in pieces, cut anywhere.

    A carriage return becomes a line end, so that a progress bar stays readable.  A line end also ends a sequence
    that was never completed: it hides the rest of its line, and no more.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._state = _TEXT
        self._returned = False

    def strip(self, data: bytes) -> bytes:
        """The text of a piece, as far as its last character is complete."""
        text, at = self._decoder.decode(data), 0
        kept: list[str] = []
        while at < len(text):
            run = _RUNS[self._state].match(text, at)
            if run is not None:
                if self._state == _TEXT:
                    kept.append(self._lines(run[0]))
                at = run.end()
            else:
                at += self._step(text[at], kept)
        return "".join(kept).encode()

    def _lines(self, text: str) -> str:
        text = text[1:] if self._returned and text[0] == "\n" else text
        self._returned = False
        return text

    def _step(self, char: str, kept: list[str]) -> int:
        """Takes one character that ends a run; returns 0 if the next state must read it too."""
        before, self._state = self._state, _AFTER.get(char, _TEXT)
        if before == _ESCAPE and char in _INTRODUCERS:
            self._state = _INTRODUCERS[char]
        elif before != _TEXT:
            return 0 if char in "\r\n\t" or char > "\x9f" else 1
        elif char == "\r":
            kept.append("\n")
            self._returned = True
        return 1


_TEXT: Final = "text"
_ESCAPE: Final = "escape"
_SEQUENCE: Final = "control sequence"
_STRING: Final = "control string"

_RUNS: Final = {
    _TEXT: re.compile(r"[^\x00-\x08\x0b-\x1f\x7f-\x9f]+"),
    _ESCAPE: re.compile(r"[\x20-\x2f]+"),
    _SEQUENCE: re.compile(r"[\x20-\x3f]+"),
    _STRING: re.compile(r"[^\x07\n\r\x18\x1a\x1b\x9c]+"),
}
"""What each state takes at once."""

_INTRODUCERS: Final = {"[": _SEQUENCE} | dict.fromkeys("PX]^_", _STRING)
"""CSI, and DCS, SOS, OSC, PM, APC, as they are written in 7 bits."""

_AFTER: Final = {"\x1b": _ESCAPE, "\x9b": _SEQUENCE} | dict.fromkeys("\x90\x98\x9d\x9e\x9f", _STRING)
