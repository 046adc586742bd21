"""Globs over branches, paths, users: `*` stops at a slash, `**` does not, `!` takes back.

As in the files that Git, GitHub and GitLab have: `src/**` is all below, `**/test_*.py` a name anywhere,
`release-?` one more character, `[0-9]` one of some.  The last glob that matches decides; one that
begins with `!` says no.  If all say no, everything else is meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache


class Globs:
    """Several globs, as one question."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._rules = [(not text.startswith("!"), _compiled(text.removeprefix("!"))) for text in patterns]
        self._otherwise = not any(says_yes for says_yes, _ in self._rules)

    def matches(self, text: str) -> bool:
        """Whether `text` is meant."""
        for says_yes, pattern in reversed(self._rules):
            if pattern.fullmatch(text):
                return says_yes
        return self._otherwise


@lru_cache(maxsize=1024)
def globs(patterns: tuple[str, ...]) -> Globs:
    """The same, kept."""
    return Globs(patterns)


def _compiled(text: str) -> re.Pattern[str]:
    if text.endswith("/"):
        text += "**"
    parts: list[str] = []
    place = 0
    while place < len(text):
        part, place = _next(text, place)
        parts.append(part)
    return re.compile("".join(parts), re.DOTALL)


def _next(text: str, place: int) -> tuple[str, int]:
    """The regular expression of what stands at `place`, and where the next thing stands."""
    if text.startswith("**/", place) and (place == 0 or text[place - 1] == "/"):
        return "(?:.*/)?", place + 3
    if text.startswith("**", place):
        return ".*", place + 2
    sign = text[place]
    if sign == "*":
        return "[^/]*", place + 1
    if sign == "?":
        return "[^/]", place + 1
    end = text.find("]", place + 2) if sign == "[" else -1
    if end > 0:
        return _set(text[place + 1 : end]), end + 1
    return re.escape(sign), place + 1


def _set(inner: str) -> str:
    """`[!0-9]` as a regular expression's set, which never matches a slash."""
    negated = inner[0] in "!^"
    members = inner[1:] if negated else inner
    quoted = "".join(sign if sign == "-" else re.escape(sign) for sign in members)
    return f"(?!/)[{'^' if negated else ''}{quoted}]"


def glob_fault(text: str) -> str:
    """Why a text is no glob; empty if it is one."""
    if not text.removeprefix("!"):
        return "it is empty"
    try:
        Globs([text])
    except re.error as error:
        return f"it is no glob: {error}"
    return ""
