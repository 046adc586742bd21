"""`provider: calendar`: a recurrence rule of RFC 5545, in a time zone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import Annotated, Final

import msgspec

from muster.blueprints.provider import Schedule
from muster.mesh.errors import InvalidError, Problem
from muster.triggers import recurrence_text, zones
from muster.triggers.recurrence import DAY, Rule
from muster.triggers.zones import MOMENT

MOST_EXCEPTIONS: Final = 1000
LONGEST: Final = 1000
"""Characters of a rule."""


class Calendar(Schedule, kw_only=True):
    """Goes off at the times of a rule, from `since` on, but for those excepted."""

    rrule: str
    """`FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=17`; what it does not say (day, hour, minute …) is that of `since`."""
    since: str | None = None
    """The rule's begin: a date, a local time, or RFC 3339; without it, the time at which the trigger was applied."""
    until: str | None = None
    """Nothing after this, written like `since`; a date includes its day."""
    count: Annotated[int, msgspec.Meta(ge=1, le=recurrence_text.MOST_COUNT)] | None = None
    """No more than so many times from its begin on; excepted ones count."""
    timezone: str = "UTC"
    except_: Annotated[tuple[str, ...], msgspec.Meta(max_length=MOST_EXCEPTIONS)] = ()
    """Dates, on which nothing is due, and times that are left out."""

    def problems(self) -> Iterator[Problem]:
        """A rule that cannot be read, times that are none, a zone that does not exist, and a rule that never comes."""
        yield from super().problems()
        found = list(self._problems())
        yield from found
        if not found and Times(self, datetime.now(UTC)).is_empty:
            mend = "look at until and except" if self.until or self.except_ else "look at its days and its end"
            yield Problem(path="rrule", message="it never goes off", line=1, column=1, mend=mend)

    def _problems(self) -> Iterator[Problem]:
        try:
            zone = zones.find(self.timezone)
        except ValueError as error:
            yield Problem(path="timezone", message=str(error))
            return
        places = [("since", self.since), ("until", self.until)]
        places += [(f"except[{place}]", text) for place, text in enumerate(self.except_)]
        for path, text in places:
            try:
                _wall(text or "2000-01-01", zone)
            except ValueError as error:
                yield Problem(path=path, message=str(error))
        if len(self.rrule) > LONGEST:
            yield Problem(path="rrule", message=f"longer than {LONGEST} characters")
            return
        read = recurrence_text.read(self.rrule)
        if isinstance(read, list):
            yield from read
            return
        for name, told, more in (("until", self.until, read.until), ("count", self.count, read.count)):
            if told is not None and more is not None:
                yield Problem(path=name, message=f"the rule says {name.upper()} too; say it once")

    def zone(self) -> tzinfo:
        """The rule's."""
        return zones.find(self.timezone).info

    def following(self, after: datetime, start: datetime) -> datetime | None:
        """The first time after `after`."""
        return times(self, start.replace(microsecond=0) if self.since is None else None).following(after)


class Times:
    """A rule with its begin and end, by the wall clock."""

    def __init__(self, settings: Calendar, applied: datetime | None) -> None:
        read = recurrence_text.read(settings.rrule)
        if isinstance(read, list):
            raise InvalidError(f"{settings.rrule!r} is no recurrence rule", *read)
        self._zone = zones.find(settings.timezone)
        self._rule: Rule = read.rule
        begin = settings.since or (applied or datetime.now(UTC)).isoformat(timespec="seconds")
        self._start = _wall(begin, self._zone)[0]
        self._until = min(_ends(settings, read, self._zone, self._start))
        left_out = [_wall(text, self._zone) for text in settings.except_]
        self._days = {wall.date() for wall, is_day in left_out if is_day}
        self._left_out = {wall for wall, is_day in left_out if not is_day}
        self._from: datetime | None = None
        self._to: datetime | None = None

    def following(self, after: datetime) -> datetime | None:
        """The first time after `after`; what was found last is remembered."""
        if self._from is not None and self._from <= after and (self._to is None or after < self._to):
            return self._to
        found = self._zone.following(self._wall, after, every_hour=self._rule.every_hour)
        self._from, self._to = after, found
        return found

    @property
    def is_empty(self) -> bool:
        """Whether it has no time at all, be it past or to come."""
        return self._wall(self._start - MOMENT) is None

    def _wall(self, after: datetime) -> datetime | None:
        while True:
            found = self._rule.following(self._start, after)
            if found is None or found > self._until:
                return None
            if found.date() in self._days:
                after = _midnight(found) + DAY - MOMENT
            elif found in self._left_out:
                after = found
            else:
                return found


@lru_cache(maxsize=4096)
def times(settings: Calendar, applied: datetime | None) -> Times:
    """A rule that was applied at some time (None: that does not matter), read once."""
    return Times(settings, applied)


def _ends(settings: Calendar, read: recurrence_text.Read, zone: zones.Zone, start: datetime) -> Iterator[datetime]:
    """Every end that is set."""
    yield zones.END
    for text in (settings.until, read.until):
        if text is not None:
            wall, is_day = _wall(text, zone)
            yield wall + timedelta(days=1) - MOMENT if is_day else wall
    for count in (settings.count, read.count):
        if count is not None:
            yield read.rule.last(start, count) or start


def _wall(text: str, zone: zones.Zone) -> tuple[datetime, bool]:
    """A text as a time of the wall clock, and whether it is a whole day.

    Raises:
        ValueError: the text is neither a date nor a time.
    """
    text = text.strip()
    try:
        if len(text) <= len("2030-01-31"):
            return datetime.combine(date.fromisoformat(text), time()), True
        found = datetime.fromisoformat(text)
        if found.tzinfo is not None:
            found = found.astimezone(zone.info).replace(tzinfo=None)
    except (ValueError, OverflowError):
        mend = "write 2030-01-31, 2030-01-31T12:00 or 2030-01-31T12:00:00Z"
        raise ValueError(f"{text!r} is no date or time; {mend}") from None
    return found, False


def _midnight(wall: datetime) -> datetime:
    return datetime(wall.year, wall.month, wall.day)  # noqa: DTZ001
