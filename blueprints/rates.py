"""How much may come in a time: token buckets by sender, so many of them at most."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Final, NamedTuple

from muster.blueprints.definition import duration

MOST_BUCKETS: Final = 10_000
"""The least recently used goes first, and is full again when it comes back."""

_UNITS: Final = {"": 1, "KB": 1024, "MB": 1024**2, "GB": 1024**3}
_TEXT: Final = re.compile(r"\s*(\d{1,12})\s*(KB|MB|GB|)\s*/\s*(\S+)\s*")


class Rate(NamedTuple):
    """So much at once, and again as time passes."""

    amount: float
    seconds: float


def rate_of(text: str) -> Rate:
    """`100/1m`, `64MB/1h` as a rate.

    Raises:
        ValueError: it is none.
    """
    found = _TEXT.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a rate; write 100/1m, or 64MB/1h for bytes")
    rate = Rate(int(found[1]) * _UNITS[found[2]], duration(found[3]).total_seconds())
    if rate.amount <= 0 or rate.seconds <= 0:
        raise ValueError(f"{text!r} lets nothing through: both sides must be more than nothing")
    return rate


class Rates:
    """A bucket for each key: full at first, emptied by what comes, filled again by time."""

    def __init__(self, most: int = MOST_BUCKETS) -> None:
        self._most = most
        self._buckets: dict[Hashable, tuple[float, float]] = {}
        """What is left, and when that was; the least recently used first."""

    def __len__(self) -> int:
        return len(self._buckets)

    def wait(self, key: Hashable, rate: Rate, now: float) -> float:
        """Seconds until one more may come; 0 if it may now."""
        missing = 1 - self._left(key, rate, now)
        return max(0.0, missing * rate.seconds / rate.amount)

    def spend(self, key: Hashable, rate: Rate, amount: float, now: float) -> None:
        """Something came; one that is larger than what is left is let through, and paid for by those after it."""
        left = self._left(key, rate, now) - amount
        self._buckets.pop(key, None)
        self._buckets[key] = (left, now)
        if len(self._buckets) > self._most:
            del self._buckets[next(iter(self._buckets))]

    def _left(self, key: Hashable, rate: Rate, now: float) -> float:
        left, at = self._buckets.get(key, (rate.amount, now))
        return min(rate.amount, left + (now - at) * rate.amount / rate.seconds)
