"""Did you mean …?"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_FEW = 12


def did_you_mean(text: str, known: Iterable[str]) -> str:
    """Returns a hint for a misspelt name: the nearest known one, all of them if they are few, or an empty text."""
    names = sorted(set(known))
    lowered = {name.lower(): name for name in names}
    near = get_close_matches(text.lower(), lowered, n=1, cutoff=0.6)
    if near:
        return f"did you mean {lowered[near[0]]!r}?"
    if 0 < len(names) <= _FEW:
        return f"there is {', '.join(names)}" if len(names) == 1 else f"there are {', '.join(names)}"
    return ""
