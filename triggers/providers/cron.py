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
    """Fires when the wall clock shows one of the line's times."""

    cron: str
    """`minute hour day month weekday`, with seconds before them if there are six; or `@daily` and the like."""
    timezone: str = "UTC"
    """IANA name: `Europe/Berlin`."""

    def problems(self) -> Iterator[Problem]:
        """A line that cannot be read, that never comes, or a zone that does not exist."""
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
            yield Problem(path="cron", message=message, line=1, column=1, hint="look at its day and month")

    def zone(self) -> tzinfo:
        """The line's."""
        return zones.find(self.timezone).info

    def following(self, after: datetime, start: datetime) -> datetime | None:  # noqa: ARG002 - a line has no start
        """The first time after `after` that matches."""
        return times(self.cron, self.timezone).following(after)

    def key(self, due: datetime, start: datetime) -> str:  # noqa: ARG002
        """The local time."""
        return times(self.cron, self.timezone).key(due)


class Times:
    """A line in a zone.  Triggers share it, and what it has found last."""

    __slots__ = ("_crontab", "_from", "_key", "_to", "_zone")

    def __init__(self, line: crontab.Crontab, zone: zones.Zone) -> None:
        self._crontab = line
        self._zone = zone
        self._from: datetime | None = None
        self._to: datetime | None = None
        self._key: tuple[datetime, str] | None = None

    def following(self, after: datetime) -> datetime | None:
        """As `Schedule.following`; nothing is due between what it found and what it found it for."""
        if self._from is not None and self._from <= after and (self._to is None or after < self._to):
            return self._to
        found = self._zone.following(self._crontab.following, after, every_hour=self._crontab.every_hour)
        self._from, self._to = after - timedelta(microseconds=after.microsecond), found
        return found

    def key(self, due: datetime) -> str:
        """The local time that something is due for; the last one is remembered."""
        if self._key is None or self._key[0] != due:
            self._key = due, self._zone.key(due, self._is_named)
        return self._key[1]

    def _is_named(self, wall: datetime) -> bool:
        return self._crontab.following(wall - MOMENT) == wall


@lru_cache(maxsize=16384)
def times(line: str, timezone: str) -> Times:
    """A line in a zone, read once.

    Raises:
        InvalidError: either is not valid.
        ValueError: there is no such zone.
    """
    read = crontab.read(line)
    if isinstance(read, list):
        raise InvalidError(f"{line!r} is no cron line", *read)
    return Times(read, zones.find(timezone))
