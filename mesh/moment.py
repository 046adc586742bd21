"""How Muster writes a time where a text is wanted: in events, outputs and answers."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

_encode = msgspec.json.Encoder().encode


def in_utc(moment: datetime) -> datetime:
    """The same time in UTC.

    Raises:
        ValueError: it has none there: it is within a day of the calendar's start or end.
    """
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{moment.isoformat()} is beyond the years 1 to 9999") from None


def rfc3339(moment: datetime) -> str:
    """A time in UTC as RFC 3339 §5.6 has it, with `Z`: `2030-01-31T12:00:00Z`."""
    return _encode(moment.astimezone(UTC))[1:-1].decode()  # a tenth of what `isoformat` takes
