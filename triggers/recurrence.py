"""Recurrence rules (RFC 5545 §3.3.10), worked out on wall clock times.

Which days a rule allows is dateutil's to say.  It goes through every period from the first one, and
goes on until the year 9999 if nothing matches, so it is asked with care: what a rule takes from its start
(its day, its hour) is written out, the start is moved near the time in question by whole intervals,
and both are moved so far ahead that the year 9999 is near.  The calendar is the same there: it repeats
every 400 years.  It is only asked for days; the times of day, which may be many, are picked here.  So are the
numbers of weeks: of those that begin in one year and end in the next, dateutil drops some.
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
"""How many periods are looked at in vain, until a rule is held to have no more times."""

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
"""From YEARLY to SECONDLY, as dateutil numbers them."""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule without its end."""

    freq: Frequency
    interval: int = 1
    week_start: int = 0
    parts: Mapping[str, Any] = {}
    """The BY parts, by dateutil's names."""

    @property
    def is_elapsed(self) -> bool:
        """Whether it counts hours, minutes or seconds as they pass, and not by what a wall clock shows.

        One that names its hours goes by the clock, as one of days does.
        """
        return self.freq >= rrule.HOURLY and "byhour" not in self.parts

    @property
    def step(self) -> timedelta:
        """The time from one of its hours, minutes or seconds to the next; nothing for a rule of days and longer."""
        return _UNITS[self.freq] * self.interval if self.freq >= rrule.HOURLY else timedelta(0)

    def times(self, start: datetime, after: datetime) -> Iterator[datetime]:
        """All times after `after` that are not before `start`."""
        after = max(after, start - MOMENT)
        times = self._by_periods(start, after) if self.freq < rrule.DAILY else self._by_days(start, after)
        return takewhile(lambda time: time < END, times)

    def has(self, start: datetime, time: datetime) -> bool:
        """Whether a time is one of its times."""
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
        """The days of each of the rule's years, months or weeks, from that of `after` on."""
        begin = self._near(start, after)
        if begin < END:
            every = self._allowed(begin + FAR, self.interval, parts)
            yield from (list(days) for _, days in groupby(every, self._period))

    def _weeks(
        self, weeks: tuple[int, ...], parts: Mapping[str, Any], start: datetime, after: datetime
    ) -> Iterator[list[datetime]]:
        """The days of each of the rule's years that are in its weeks, from a year before `after` on.

        Years begin and end with their weeks, and are counted from that of the start: of its week, if the rule has that.
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
        """The days that the parts allow, from `begin` on, which is `FAR` ahead."""
        rule = rrule.rrule(self.freq, dtstart=begin, interval=interval, wkst=self.week_start, **parts)
        return takewhile(lambda day: day < END, (day - FAR for day in rule))

    def _period(self, day: datetime) -> int:
        """A number of the day's year, month or week."""
        if self.freq == rrule.WEEKLY:
            return (day.toordinal() - 1 - self.week_start) // 7
        return day.year if self.freq == rrule.YEARLY else day.year * 12 + day.month

    def _near(self, start: datetime, after: datetime) -> datetime:
        """The begin of the last of the rule's years, months or weeks that is not after `after`."""
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
        """The midnights of the days that the parts allow, from `moment`'s own on."""
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
        """The begin of each of the rule's days, hours … that may hold a time after `after`, until `end`.

        None for those that the parts do not allow: whoever asks counts them too.
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
        """The parts that say which hours, minutes … a rule of hours, minutes … takes."""
        for place, time in enumerate(_TIMES[: self.freq - rrule.DAILY], 3):
            if f"by{time}" in self.parts:
                yield place, timedelta(**{f"{time}s": 1}), _some(self.parts[f"by{time}"])

    def _day_times(self, start: datetime, period: datetime | None = None) -> DayTimes:
        """The times of day that the parts name, or the start; in a rule's hour, minute …, those within it."""
        given = _TIMES[: self.freq - rrule.DAILY] if period else ()
        choices = (
            getattr(period, time) if time in given else self.parts.get(f"by{time}", getattr(start, time))
            for time in _TIMES
        )
        return DayTimes(*(tuple(sorted(set(_some(choice)))) for choice in choices))

    def _chosen(self, days: list[datetime], times: DayTimes, after: datetime) -> Iterator[datetime]:
        """The times after `after` of some days, which together are what BYSETPOS chooses from."""
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
    """The times of a day after `after`."""
    if after >= day + DAY:
        return
    span = times.first() if after < day else times.later(after.hour, after.minute, after.second)
    while span is not None:
        found = day + span
        yield found
        span = times.later(found.hour, found.minute, found.second)


def _end(wall: datetime, unit: timedelta) -> datetime:
    """The end of the hour, minute or second that `wall` is in."""
    midnight = _midnight(wall)
    return midnight + ((wall - midnight) // unit + 1) * unit


def _some(numbers: int | Iterable[int]) -> tuple[int, ...]:
    return (numbers,) if isinstance(numbers, int) else tuple(numbers)


def _midnight(wall: datetime) -> datetime:
    return datetime(wall.year, wall.month, wall.day)  # noqa: DTZ001
