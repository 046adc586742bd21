"""Globs over branches, paths and users: `*` stops at a slash, `**` does not, `!` excludes.

They work as in files of Git, GitHub and GitLab: `src/**` is everything below, `**/test_*.py` a name anywhere,
`release-?` one more character, `[0-9]` one character of a set.  The last glob that matches decides, and excludes if it
starts with `!`.  If all globs start with `!`, everything else matches.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache


class Globs:
    """Several globs, evaluated together."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._rules = [(not text.startswith("!"), _compiled(text.removeprefix("!"))) for text in patterns]
        self._otherwise = not any(says_yes for says_yes, _ in self._rules)

    def matches(self, text: str) -> bool:
        """Returns whether `text` matches."""
        for says_yes, pattern in reversed(self._rules):
            if pattern.fullmatch(text):
                return says_yes
        return self._otherwise


@lru_cache(maxsize=1024)
def globs(patterns: tuple[str, ...]) -> Globs:
    """Returns compiled globs from a cache."""
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
    """Returns the regular expression of the token at `place`, and the place of the next token."""
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
    """Returns `[!0-9]` as a set of a regular expression, which never matches a slash."""
    negated = inner[0] in "!^"
    members = inner[1:] if negated else inner
    quoted = "".join(sign if sign == "-" else re.escape(sign) for sign in members)
    return f"(?!/)[{'^' if negated else ''}{quoted}]"


def glob_fault(text: str) -> str:
    """Returns why a glob is invalid; empty if it is valid."""
    if not text.removeprefix("!"):
        return "it is empty"
    try:
        Globs([text])
    except re.error as error:
        return f"the glob is invalid: {error}"
    return ""
