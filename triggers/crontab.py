"""Crontab lines, parsed by the rules of crontab(5); APScheduler computes the days that they allow.

APScheduler counts weekdays from Monday, and requires both the day of the month and the weekday to match.  A crontab
counts from Sunday, and if both are restricted, either can match.  Therefore fields are translated, and a line can
become two APScheduler triggers, of which the earlier time counts.  The time of day comes from the numbers of the line.
All times are wall clock times; `zones` converts them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from typing import Final, NamedTuple

from apscheduler.triggers.cron import CronTrigger

from muster.mesh.errors import Problem
from muster.triggers.crontab_fields import FIELDS, WEEKDAYS, Choice, MonthDay, Wrong, choice
from muster.triggers.day_times import DayTimes, Numbers
from muster.triggers.zones import END

NICKNAMES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

_WORDS: Final = re.compile(rf"(?:(?:1st|2nd|3rd|4th|5th|last)\s+(?:{'|'.join(WEEKDAYS)})(?![a-z])|\S)+", re.IGNORECASE)
"""A field; `2nd fri` contains a space."""


class Days:
    """The days that a line allows.  Lines with the same days share this object and its cached result."""

    __slots__ = ("_from", "_month_days", "_to", "_triggers")

    def __init__(self, triggers: Iterable[CronTrigger], month_days: MonthDays | None = None) -> None:
        self._triggers = tuple(triggers)
        self._month_days = month_days
        self._from: datetime | None = None
        self._to: datetime | None = None

    def first(self, midnight: datetime) -> datetime | None:
        """Returns the midnight of the first allowed day that is not before this one."""
        if self._from is not None and self._from <= midnight and (self._to is None or midnight <= self._to):
            return self._to
        now = midnight.replace(tzinfo=UTC)
        found = [each for trigger in self._triggers if (each := trigger.get_next_fire_time(None, now)) is not None]
        days = [each.replace(tzinfo=None) for each in found]
        if self._month_days is not None and (day := self._month_days.first(midnight)) is not None:
            days.append(day)
        self._from, self._to = midnight, min(days, default=None)
        return self._to


class MonthDays(NamedTuple):
    """`L-3`, `15W` and similar days, in some months."""

    days: tuple[MonthDay, ...]
    months: Numbers

    def first(self, midnight: datetime) -> datetime | None:
        """Returns the midnight of the first of them that is not before this one."""
        for year in range(midnight.year, END.year):
            for month in self.months:
                if (year, month) >= (midnight.year, midnight.month):
                    found = [day.date(year, month) for day in self.days]
                    later = [each for each in found if each is not None and each >= midnight.date()]
                    if later:
                        return datetime.combine(min(later), time())
        return None


class Crontab:
    """A parsed line."""

    __slots__ = ("_days", "_times")

    def __init__(self, days: Days, times: DayTimes) -> None:
        self._days = days
        self._times = times

    @property
    def every_hour(self) -> bool:
        """Returns whether it fires in every hour."""
        return len(self._times.hours) == 24  # noqa: PLR2004 - hours of a day

    def following(self, wall: datetime) -> datetime | None:
        """Returns the first matching time after `wall`; both are wall clock times without changes of clocks."""
        midnight = datetime(wall.year, wall.month, wall.day)  # noqa: DTZ001 - a wall clock's time
        day = self._days.first(midnight)
        if day == midnight:
            later = self._times.later(wall.hour, wall.minute, wall.second)
            if later is not None:
                return midnight + later
            day = self._days.first(midnight + timedelta(days=1))
        return None if day is None else day + self._times.first()


def read(text: str) -> Crontab | list[Problem]:
    """Parses a line; returns it, or all of its problems with their columns."""
    line = text.strip().lower()
    if line.startswith("@"):
        if line not in NICKNAMES:
            hint = f"there are {', '.join(NICKNAMES)}; for other intervals, use the provider interval"
            return [_problem(Wrong(text.index("@"), f"there is no {line[:40]!r}", hint))]
        return read(NICKNAMES[line])
    words = list(_WORDS.finditer(text))
    if len(words) not in {5, 6}:
        hint = "write minute hour day month weekday, optionally with seconds in front"
        return [_problem(Wrong(0, f"a cron line has 5 or 6 fields, this has {len(words)}", hint))]
    choices: dict[str, Choice] = {"second": choice("second", "0")}
    problems: list[Problem] = []
    for name, word in zip(list(FIELDS)[-len(words) :], words, strict=True):
        try:
            choices[name] = choice(name, word[0])
        except Wrong as error:
            problems.append(_problem(error, word.start()))
    if not problems:
        try:
            return _compiled(choices)
        except Wrong as error:
            problems.append(_problem(error, words[-1].start()))
    return problems


def _problem(wrong: Wrong, start: int = 0) -> Problem:
    return Problem(path="cron", message=wrong.message, line=1, column=start + wrong.place + 1, hint=wrong.hint)


def _compiled(choices: dict[str, Choice]) -> Crontab:
    month_days, months = choices["day"].month_days, choices["month"].numbers
    own = MonthDays(month_days, months) if month_days else None
    days = _shared(choices["month"].text(), tuple(_days(choices)), own)
    return Crontab(days, DayTimes(choices["hour"].numbers, choices["minute"].numbers, choices["second"].numbers))


def _days(choices: dict[str, Choice]) -> Iterator[tuple[str, str]]:
    """Yields pairs of APScheduler's day and day_of_week; a day that matches any of them is allowed.

    crontab(5): if both fields are restricted (do not start with *), either one is enough.
    """
    day, weekday = choices["day"], choices["weekday"]
    if not day.is_star and not weekday.is_star:
        if named := ",".join(part for part in (day.text(), *weekday.special) if part):
            yield named, "*"
        if weekday.numbers:
            yield "*", weekday.plain
    elif weekday.is_all:
        if day.text():
            yield day.text(), "*"
    else:
        if day.month_days:
            raise Wrong(0, "this cannot be limited to days of the month like L-3 and 15W", "write * for the weekday")
        if weekday.numbers:
            yield day.text(), weekday.plain
        if weekday.special:
            if not day.is_all:
                raise Wrong(0, "this cannot be limited to days by a step", "write * for the day")
            yield ",".join(weekday.special), "*"


@lru_cache(maxsize=4096)
def _shared(month: str, pairs: tuple[tuple[str, str], ...], own: MonthDays | None) -> Days:
    end = END.replace(tzinfo=UTC)
    triggers = (
        CronTrigger(month=month, day=day, day_of_week=weekday, timezone=UTC, end_date=end) for day, weekday in pairs
    )
    return Days(triggers, own)
