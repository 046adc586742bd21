"""Spans of time as people write them: `1h30m` is 5400 seconds, and back."""

import re

UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}

_PART = re.compile(r"(\d+)([dhms])")


def seconds(text):
    """How many seconds a text like `1h30m` means.

    Raises:
        ValueError: it means none.
    """
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is no span of time; write it like 1h30m")
    return sum(int(number) * UNITS[unit] for number, unit in parts)


def text(span):
    """So many seconds in as few units as it takes."""
    written = ""
    for unit, size in UNITS.items():
        count, span = divmod(span, size)
        written += f"{count}{unit}" if count else ""
    return written or "0s"
