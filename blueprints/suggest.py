"""Did you mean …?"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice
from typing import Final

FEW: Final = 12
"""Names that are all listed if none is near."""

MOST_NAMES: Final = 20_000
"""Names that are considered: a request waits for the answer, and so does everything else in the event loop."""

MOST_CANDIDATES: Final = 100
"""Names that are compared letter by letter."""

NEAR: Final = 2
"""How many letters longer or shorter a candidate is."""


def closest(text: str, known: Iterable[str]) -> str | None:
    """Returns the known name that is nearest to a misspelt one, or None if none is near.

    A candidate has nearly the same length, and its first letter is among the first two; or one starts with the other.
    """
    wanted, size = text.lower(), len(text)
    start = wanted[:2]

    def is_candidate(name: str) -> bool:
        lower = name.lower()
        is_similar = -NEAR <= len(name) - size <= NEAR and (lower[:1] in start or lower[1:2] == start[:1])
        return is_similar or lower.startswith(wanted) or wanted.startswith(lower)

    names = filter(is_candidate, islice(known, MOST_NAMES))
    lowered = {name.lower(): name for name in islice(names, MOST_CANDIDATES)}
    near = get_close_matches(wanted, lowered, n=1)
    return lowered[near[0]] if near else None


def did_you_mean(text: str, known: Iterable[str]) -> str:
    """Returns a hint for a misspelt name: the nearest known one, all of them if they are few, or an empty text."""
    names = sorted(set(known))
    if (near := closest(text, names)) is not None:
        return f"did you mean {near!r}?"
    if 0 < len(names) <= FEW:
        return f"there is {', '.join(names)}" if len(names) == 1 else f"there are {', '.join(names)}"
    return ""
