"""Parses and prints durations: `1h30m` is 5400 seconds."""

import re

UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}

_PART = re.compile(r"(\d+)([dhms])")


def seconds(text):
    """Returns the seconds of a text like `1h30m`.

    Raises:
        ValueError: the text is not a duration.
    """
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is not a duration; write, for example, 1h30m")
    return sum(int(number) * UNITS[unit] for number, unit in parts)


def text(span):
    """Returns seconds as text, with as few units as possible."""
    written = ""
    for unit, size in UNITS.items():
        count, span = divmod(span, size)
        written += f"{count}{unit}" if count else ""
    return written or "0s"
