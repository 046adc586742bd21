"""Did you mean …?"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from heapq import nsmallest
from itertools import islice
from typing import Final

FEW: Final = 12
"""Names that are all listed if none is near."""

MOST_NAMES: Final = 20_000
"""Names that are considered: a request waits for the answer, and so does everything else in the event loop."""

MOST_CANDIDATES: Final = 100
"""Names that are compared letter by letter."""

SIMILARITY: Final = 0.6
"""The part of two names that must agree; no name of less than 0.43 or more than 2.33 times the length can."""


def closest(text: str, known: Iterable[str]) -> str | None:
    """Returns the known name that is nearest to a misspelt one, or None if none is near.

    The first letter of a candidate is among the first two; those of nearly the same length are compared first.
    """
    wanted, size = text.lower(), len(text)
    start = wanted[:2]

    def is_candidate(name: str) -> bool:
        is_near = 2 * min(len(name), size) >= SIMILARITY * (len(name) + size)
        return is_near and (name[:1].lower() in start or name[1:2].lower() == start[:1])

    names = filter(is_candidate, islice(known, MOST_NAMES))
    nearest = nsmallest(MOST_CANDIDATES, names, key=lambda name: abs(len(name) - size))
    lowered = {name.lower(): name for name in nearest}
    near = get_close_matches(wanted, lowered, n=1, cutoff=SIMILARITY)
    return lowered[near[0]] if near else None


def did_you_mean(text: str, known: Iterable[str]) -> str:
    """Returns a hint for a misspelt name: the nearest known one, all of them if they are few, or an empty text."""
    names = sorted(set(known))
    if (near := closest(text, names)) is not None:
        return f"did you mean {near!r}?"
    if 0 < len(names) <= FEW:
        return f"there is {', '.join(names)}" if len(names) == 1 else f"there are {', '.join(names)}"
    return ""
