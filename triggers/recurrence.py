"""Recurrence rules (RFC 5545 §3.3.10), worked out on wall clock times.

Which days a rule allows is dateutil's to say.  It goes through every period from the first one, and
goes on until the year 9999 if nothing matches, so it is asked with care: what a rule takes from its start
(its day, its hour) is written out, the start is moved near the time in question by whole intervals,
and both are moved so far ahead that the year 9999 is near.  The calendar is the same there: it repeats
every 400 years.  Rules that go by days or finer only ask it for days, and count the rest themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from itertools import product
from typing import Any, Final, Literal

import msgspec
from dateutil import rrule

from muster.triggers.zones import END, MOMENT

DAY: Final = timedelta(days=1)
FAR: Final = 19 * timedelta(days=146_097)
"""7600 years."""

MOST_PERIODS: Final = 20_000
"""How many periods are looked at in vain, until a rule is held to have no more times."""

_DAY_PARTS: Final = ("byweekno", "byyearday", "bymonthday", "byweekday")
_UNITS: Final = {
    rrule.DAILY: DAY,
    rrule.HOURLY: timedelta(hours=1),
    rrule.MINUTELY: timedelta(minutes=1),
    rrule.SECONDLY: timedelta(seconds=1),
}
_TIMES: Final = ("hour", "minute", "second")


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
    def every_hour(self) -> bool:
        """Whether it names no hours (`zones`)."""
        return self.freq >= rrule.HOURLY and "byhour" not in self.parts

    def following(self, start: datetime, after: datetime) -> datetime | None:
        """The first time after `after`, if it is not before `start`."""
        after = max(after, start - MOMENT)
        found = self._by_periods(start, after) if self.freq < rrule.DAILY else self._by_days(start, after)
        return None if found is None or found >= END else found

    def last(self, start: datetime, count: int) -> datetime | None:
        """The `count`th time from `start` on, or the last one if there are fewer."""
        found, after = None, start - MOMENT
        for _ in range(count):
            later = self.following(start, after)
            if later is None:
                break
            found = after = later
        return found

    def _by_periods(self, start: datetime, after: datetime) -> datetime | None:
        parts = dict(self.parts)
        if not any(part in parts for part in _DAY_PARTS):
            if self.freq == rrule.YEARLY:
                parts.setdefault("bymonth", start.month)
            if self.freq == rrule.WEEKLY:
                parts["byweekday"] = start.weekday()
            else:
                parts["bymonthday"] = start.day
        parts |= {f"by{time}": parts.get(f"by{time}", getattr(start, time)) for time in _TIMES}
        begin = self._near(start, after)
        if begin >= END:
            return None
        rule = rrule.rrule(self.freq, dtstart=begin + FAR, interval=self.interval, wkst=self.week_start, **parts)
        found = rule.after(after + FAR)
        return None if found is None else found - FAR

    def _near(self, start: datetime, after: datetime) -> datetime:
        """The begin of the last of the rule's years, months or weeks that is not after `after`."""
        if self.freq == rrule.YEARLY:
            years = max(0, after.year - start.year) // self.interval * self.interval
            return start if not years else datetime(start.year + years, 1, 1)  # noqa: DTZ001 - a wall clock's time
        if self.freq == rrule.MONTHLY:
            months = max(0, (after.year - start.year) * 12 + after.month - start.month)
            months = start.month - 1 + months // self.interval * self.interval
            return max(start, datetime(start.year + months // 12, months % 12 + 1, 1))  # noqa: DTZ001
        begin = _midnight(start) - (start.weekday() - self.week_start) % 7 * DAY
        step = timedelta(weeks=1) * self.interval
        return max(start, begin + max(0, (after - begin) // step) * step)

    def _by_days(self, start: datetime, after: datetime) -> datetime | None:
        left = MOST_PERIODS
        for day in self._days(after + MOMENT):
            for period in self._periods(start, max(after, day - MOMENT), day + DAY):
                left -= 1
                if period is not None and (found := self._within(start, period, after)) is not None:
                    return found
            left -= 1
            if left <= 0:
                break
        return None

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

    def _within(self, start: datetime, period: datetime, after: datetime) -> datetime | None:
        """The first time of a period after `after`."""
        given = self.freq - rrule.DAILY
        fields = [period.hour, period.minute, period.second][:given]
        choices = [sorted(_some(self.parts.get(f"by{time}", getattr(start, time)))) for time in _TIMES[given:]]
        midnight = _midnight(period)
        every = [midnight + _span(*fields, *values) for values in product(*choices)]
        places = _some(self.parts.get("bysetpos", ()))
        if places:
            chosen = {place - 1 if place > 0 else len(every) + place for place in places}
            every = [time for place, time in enumerate(every) if place in chosen]
        return next((time for time in every if time > after), None)


def _span(hours: int, minutes: int, seconds: int) -> timedelta:
    return timedelta(hours=hours, minutes=minutes, seconds=seconds)


def _end(wall: datetime, unit: timedelta) -> datetime:
    """The end of the hour, minute or second that `wall` is in."""
    midnight = _midnight(wall)
    return midnight + ((wall - midnight) // unit + 1) * unit


def _some(numbers: int | Iterable[int]) -> tuple[int, ...]:
    return (numbers,) if isinstance(numbers, int) else tuple(numbers)


def _midnight(wall: datetime) -> datetime:
    return datetime(wall.year, wall.month, wall.day)  # noqa: DTZ001
