"""Recurrence rules (RFC 5545 §3.3.10), computed on wall clock times.

dateutil computes the days that a rule allows.  It iterates over every period from the first one, and continues until
the year 9999 if nothing matches.  Therefore its input is prepared: the parts that a rule takes from its start (day,
hour) are made explicit, the start is moved close to the requested time by whole intervals, and both are moved ahead
until the year 9999 is close.  The calendar is the same there, because it repeats every 400 years.  dateutil
computes only days.  The times of day, which can be many, are computed here.  So are week numbers, because dateutil
drops some weeks over New Year.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from itertools import groupby, takewhile
from typing import Any, Final, Literal

import msgspec
from dateutil import rrule

from muster.triggers.day_times import DayTimes
from muster.triggers.weeks import in_weeks, year_of
from muster.triggers.zones import END, MOMENT

DAY: Final = timedelta(days=1)
FAR: Final = 19 * timedelta(days=146_097)
"""7600 years."""

MOST_PERIODS: Final = 20_000
"""After this many periods without a match, a rule is assumed to have no more times."""

_DAY_PARTS: Final = ("byyearday", "bymonthday", "byweekday")
_UNITS: Final = {
    rrule.DAILY: DAY,
    rrule.HOURLY: timedelta(hours=1),
    rrule.MINUTELY: timedelta(minutes=1),
    rrule.SECONDLY: timedelta(seconds=1),
}
_TIMES: Final = ("hour", "minute", "second")
_TIME_PARTS: Final = ("byhour", "byminute", "bysecond", "bysetpos")


Frequency = Literal[0, 1, 2, 3, 4, 5, 6]
"""From YEARLY to SECONDLY, in dateutil's numbering."""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule without COUNT and UNTIL."""

    freq: Frequency
    interval: int = 1
    week_start: int = 0
    parts: Mapping[str, Any] = {}
    """The BY parts, with dateutil's names."""

    @property
    def is_elapsed(self) -> bool:
        """Returns whether it counts elapsed hours, minutes or seconds instead of following the wall clock.

        A rule that names its hours follows the wall clock, as a daily rule does.
        """
        return self.freq >= rrule.HOURLY and "byhour" not in self.parts

    @property
    def step(self) -> timedelta:
        """Returns the interval of a rule of hours, minutes or seconds; zero for longer rules."""
        return _UNITS[self.freq] * self.interval if self.freq >= rrule.HOURLY else timedelta(0)

    def times(self, start: datetime, after: datetime) -> Iterator[datetime]:
        """Yields all times after `after` that are not before `start`."""
        after = max(after, start - MOMENT)
        times = self._by_periods(start, after) if self.freq < rrule.DAILY else self._by_days(start, after)
        return takewhile(lambda time: time < END, times)

    def has(self, start: datetime, time: datetime) -> bool:
        """Returns whether it has this time."""
        return next(self.times(start, time - MOMENT), None) == time

    def _by_periods(self, start: datetime, after: datetime) -> Iterator[datetime]:
        parts = {part: value for part, value in self.parts.items() if part not in _TIME_PARTS}
        weeks = _some(parts.pop("byweekno", ()))
        if not any(part in parts for part in _DAY_PARTS):
            if weeks or self.freq == rrule.WEEKLY:
                parts["byweekday"] = start.weekday()
            else:
                parts["bymonthday"] = start.day
                if self.freq == rrule.YEARLY:
                    parts.setdefault("bymonth", start.month)
        times = self._day_times(start)
        periods = self._weeks(weeks, parts, start, after) if weeks else self._calendar_periods(parts, start, after)
        for days in periods:
            yield from self._chosen(days, times, after)

    def _calendar_periods(self, parts: Mapping[str, Any], start: datetime, after: datetime) -> Iterator[list[datetime]]:
        """Yields the days of each year, month or week of the rule, starting with that of `after`."""
        begin = self._near(start, after)
        if begin < END:
            every = self._allowed(begin + FAR, self.interval, parts)
            yield from (list(days) for _, days in groupby(every, self._period))

    def _weeks(
        self, weeks: tuple[int, ...], parts: Mapping[str, Any], start: datetime, after: datetime
    ) -> Iterator[list[datetime]]:
        """Yields the days in the weeks of each year of the rule, from a year before `after` on.

        Years start and end with their weeks.  They are counted from the year of the start, or of the start's week.
        """
        if after >= END:
            return
        first = year_of(start, self.week_start) if in_weeks(start, weeks, self.week_start) else start.year
        begin = datetime(max(1, after.year - 1), 1, 1) + FAR - 7 * DAY  # noqa: DTZ001
        every = (day for day in self._allowed(begin, 1, parts) if in_weeks(day, weeks, self.week_start))
        for year, days in groupby(every, lambda day: year_of(day, self.week_start)):
            if (year - first) % self.interval == 0:
                yield list(days)

    def _allowed(self, begin: datetime, interval: int, parts: Mapping[str, Any]) -> Iterator[datetime]:
        """Yields the days that the parts allow, from `begin` on, which is `FAR` ahead."""
        rule = rrule.rrule(self.freq, dtstart=begin, interval=interval, wkst=self.week_start, **parts)
        return takewhile(lambda day: day < END, (day - FAR for day in rule))

    def _period(self, day: datetime) -> int:
        """Returns the number of the day's year, month or week."""
        if self.freq == rrule.WEEKLY:
            return (day.toordinal() - 1 - self.week_start) // 7
        return day.year if self.freq == rrule.YEARLY else day.year * 12 + day.month

    def _near(self, start: datetime, after: datetime) -> datetime:
        """Returns the start of the last year, month or week of the rule that is not after `after`."""
        if self.freq == rrule.YEARLY:
            years = max(0, after.year - start.year) // self.interval * self.interval
            return datetime(start.year + years, 1, 1)  # noqa: DTZ001 - a wall clock's time
        if self.freq == rrule.MONTHLY:
            months = max(0, (after.year - start.year) * 12 + after.month - start.month)
            months = start.month - 1 + months // self.interval * self.interval
            return datetime(start.year + months // 12, months % 12 + 1, 1)  # noqa: DTZ001
        begin = _midnight(start) - (start.weekday() - self.week_start) % 7 * DAY
        step = timedelta(weeks=1) * self.interval
        return begin + max(0, (after - begin) // step) * step

    def _by_days(self, start: datetime, after: datetime) -> Iterator[datetime]:
        left = MOST_PERIODS
        for day in self._days(after + MOMENT):
            for period in self._periods(start, max(after, day - MOMENT), day + DAY):
                left -= 1
                if left <= 0:
                    return
                if period is None:
                    continue
                for time in self._chosen([day], self._day_times(start, period), after):
                    yield time
                    left = MOST_PERIODS
            left -= 1
            if left <= 0:
                return

    def _days(self, moment: datetime) -> Iterator[datetime]:
        """Yields the midnights of the days that the parts allow, starting with that of `moment`."""
        midnight = _midnight(moment)
        parts = {part: self.parts[part] for part in ("bymonth", *_DAY_PARTS) if part in self.parts}
        if midnight >= END:
            return
        if not parts:
            yield from (midnight + number * DAY for number in range((END - midnight).days))
            return
        if not any(part in parts for part in _DAY_PARTS):
            parts["bymonthday"] = range(1, 32)
        every = rrule.rrule(rrule.YEARLY, dtstart=datetime(moment.year, 1, 1) + FAR, **parts)  # noqa: DTZ001
        yield from (day - FAR for day in every.xafter(midnight + FAR, inc=True))

    def _periods(self, start: datetime, after: datetime, end: datetime) -> Iterator[datetime | None]:
        """Yields the start of each day, hour … of the rule that can contain a time after `after`, until `end`.

        Yields None for those that the parts exclude, because the caller counts them too.
        """
        unit = _UNITS[self.freq]
        begin = datetime(*start.timetuple()[: self.freq])  # noqa: DTZ001
        step = unit * self.interval
        at = begin + max(0, -((begin - after + unit - 2 * MOMENT) // step)) * step
        named = list(self._named())
        while at < end:
            fields = at.timetuple()
            missed = next((unit for place, unit, numbers in named if fields[place] not in numbers), None)
            yield at if missed is None else None
            at += step if missed is None else -((at - _end(at, missed)) // step) * step

    def _named(self) -> Iterator[tuple[int, timedelta, tuple[int, ...]]]:
        """Yields the parts that restrict the hours, minutes … of a rule of hours, minutes …."""
        for place, time in enumerate(_TIMES[: self.freq - rrule.DAILY], 3):
            if f"by{time}" in self.parts:
                yield place, timedelta(**{f"{time}s": 1}), _some(self.parts[f"by{time}"])

    def _day_times(self, start: datetime, period: datetime | None = None) -> DayTimes:
        """Returns the times of day from the parts or the start; for a rule of hours or shorter, within `period`."""
        given = _TIMES[: self.freq - rrule.DAILY] if period else ()
        choices = (
            getattr(period, time) if time in given else self.parts.get(f"by{time}", getattr(start, time))
            for time in _TIMES
        )
        return DayTimes(*(tuple(sorted(set(_some(choice)))) for choice in choices))

    def _chosen(self, days: list[datetime], times: DayTimes, after: datetime) -> Iterator[datetime]:
        """Yields the times after `after` on some days, which form one set for BYSETPOS."""
        places = _some(self.parts.get("bysetpos", ()))
        if not places:
            for day in days:
                yield from _later(day, times, after)
            return
        total = len(days) * times.total
        for place in sorted({place - 1 if place > 0 else total + place for place in places}):
            if 0 <= place < total:
                time = days[place // times.total] + times.at(place % times.total)
                if time > after:
                    yield time


def _later(day: datetime, times: DayTimes, after: datetime) -> Iterator[datetime]:
    """Yields the times of a day after `after`."""
    if after >= day + DAY:
        return
    span = times.first() if after < day else times.later(after.hour, after.minute, after.second)
    while span is not None:
        found = day + span
        yield found
        span = times.later(found.hour, found.minute, found.second)


def _end(wall: datetime, unit: timedelta) -> datetime:
    """Returns the end of the hour, minute or second that contains `wall`."""
    midnight = _midnight(wall)
    return midnight + ((wall - midnight) // unit + 1) * unit


def _some(numbers: int | Iterable[int]) -> tuple[int, ...]:
    return (numbers,) if isinstance(numbers, int) else tuple(numbers)


def _midnight(wall: datetime) -> datetime:
    return datetime(wall.year, wall.month, wall.day)  # noqa: DTZ001
