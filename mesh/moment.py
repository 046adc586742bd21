"""How Muster writes a time where a text is wanted: in events, outputs and answers."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339(moment: datetime) -> str:
    """A time in UTC as RFC 3339 §5.6 has it, with `Z`: `2030-01-31T12:00:00Z`."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"
