"""`provider: cron`: a crontab line, in a time zone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Final

from muster.blueprints.provider import Schedule
from muster.mesh.errors import InvalidError, Problem
from muster.triggers import crontab, zones
from muster.triggers.zones import MOMENT

LONGEST: Final = 1000
"""Characters of a line."""


class Cron(Schedule, kw_only=True):
    """Fires when the wall clock shows a time of the line."""

    cron: str
    """`minute hour day month weekday`, with seconds in front if there are six fields; or a nickname (`@daily`)."""
    timezone: str = "UTC"
    """An IANA name, such as `Europe/Berlin`."""

    def problems(self) -> Iterator[Problem]:
        """Yields an invalid line, a line that never fires, and an unknown time zone."""
        yield from super().problems()
        try:
            zones.find(self.timezone)
        except ValueError as error:
            yield Problem(path="timezone", message=str(error))
        if len(self.cron) > LONGEST:
            yield Problem(path="cron", message=f"longer than {LONGEST} characters")
            return
        read = crontab.read(self.cron)
        if isinstance(read, list):
            yield from read
        elif read.following(datetime.now(UTC).replace(tzinfo=None)) is None:
            message = "it never fires: there is no such day"
            yield Problem(path="cron", message=message, line=1, column=1, hint="check its day and month")

    def zone(self) -> tzinfo:
        """Returns the time zone of the line."""
        return zones.find(self.timezone).info

    def following(self, after: datetime, start: datetime) -> datetime | None:  # noqa: ARG002 - a line has no start
        """Returns the first matching time after `after`."""
        return times(self.cron, self.timezone).following(after)

    def key(self, due: datetime, start: datetime) -> str:  # noqa: ARG002
        """Returns the local time as the key."""
        return times(self.cron, self.timezone).key(due)


class Times:
    """A line in a time zone.  Triggers share it and its cached result."""

    __slots__ = ("_crontab", "_from", "_key", "_to", "_zone")

    def __init__(self, line: crontab.Crontab, zone: zones.Zone) -> None:
        self._crontab = line
        self._zone = zone
        self._from: datetime | None = None
        self._to: datetime | None = None
        self._key: tuple[datetime, str] | None = None

    def following(self, after: datetime) -> datetime | None:
        """Returns the first matching time after `after`, with a cache of the last result."""
        if self._from is not None and self._from <= after and (self._to is None or after < self._to):
            return self._to
        found = self._zone.following(self._crontab.following, after, every_hour=self._crontab.every_hour)
        self._from, self._to = after - timedelta(microseconds=after.microsecond), found
        return found

    def key(self, due: datetime) -> str:
        """Returns the key of a due time, its local time, with a cache of the last result."""
        if self._key is None or self._key[0] != due:
            self._key = due, self._zone.key(due, self._is_named)
        return self._key[1]

    def _is_named(self, wall: datetime) -> bool:
        return self._crontab.following(wall - MOMENT) == wall


@lru_cache(maxsize=16384)
def times(line: str, timezone: str) -> Times:
    """Parses a line in a time zone, with a cache.

    Raises:
        InvalidError: the line is invalid.
        ValueError: the time zone is unknown.
    """
    read = crontab.read(line)
    if isinstance(read, list):
        raise InvalidError(f"{line!r} is not a cron line", *read)
    return Times(read, zones.find(timezone))
