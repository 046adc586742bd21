"""Crontab lines: read by the rules of crontab(5), and matched by APScheduler.

APScheduler counts weekdays from Monday, and lets a day of the month and a weekday hold together; a
crontab counts from Sunday, and where both are given, either will do.  So fields are translated, and
a line may become two of APScheduler's triggers, of which the earlier one counts.  They run in UTC, on
wall clock times; `zones` tells what these mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.cron.fields import BaseField

from muster.mesh.errors import Problem
from muster.triggers.crontab_fields import FIELDS, WEEKDAYS, Choice, Wrong, choice
from muster.triggers.zones import END, MOMENT

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
"""A field; `2nd fri` has a space in it."""


class Crontab:
    """A line that was understood."""

    __slots__ = ("_triggers", "every_hour")

    def __init__(self, triggers: Sequence[CronTrigger], *, every_hour: bool) -> None:
        self._triggers = tuple(triggers)
        self.every_hour = every_hour
        """Whether it names no hours."""

    def following(self, wall: datetime) -> datetime | None:
        """The first time after `wall` that matches, both by a clock that is never changed."""
        now = (wall + MOMENT).replace(tzinfo=UTC)
        found = [each for trigger in self._triggers if (each := trigger.get_next_fire_time(None, now)) is not None]
        return min(found).replace(tzinfo=None) if found else None


def read(text: str) -> Crontab | list[Problem]:
    """The line, or all that is wrong with it, each with its column."""
    line = text.strip().lower()
    if line.startswith("@"):
        if line not in NICKNAMES:
            mend = f"there are {', '.join(NICKNAMES)}; for other spans take the provider interval"
            return [_problem(Wrong(text.index("@"), f"there is no {line[:40]!r}", mend))]
        return read(NICKNAMES[line])
    words = list(_WORDS.finditer(text))
    if len(words) not in {5, 6}:
        mend = "write minute hour day month weekday, with seconds before them if you like"
        return [_problem(Wrong(0, f"a cron line has 5 or 6 fields, this has {len(words)}", mend))]
    choices: dict[str, Choice] = {"second": choice(FIELDS[0], "0", 0)}
    wrong: list[Wrong] = []
    for field, word in zip(FIELDS[-len(words) :], words, strict=True):
        try:
            choices[field.name] = choice(field, word[0], word.start())
        except Wrong as error:
            wrong.append(error)
    if not wrong:
        try:
            return _compiled(choices)
        except Wrong as error:
            wrong.append(error)
    return [_problem(each) for each in wrong]


def _problem(wrong: Wrong) -> Problem:
    return Problem(path="cron", message=wrong.message, line=1, column=wrong.place + 1, mend=wrong.mend)


def _compiled(choices: dict[str, Choice]) -> Crontab:
    common = {name: choices[name].text() for name in ("second", "minute", "hour", "month")}
    triggers = [_trigger(day=day, day_of_week=weekday, **common) for day, weekday in _days(choices)]
    return Crontab(triggers, every_hour=len(choices["hour"].numbers) == 24)  # noqa: PLR2004 - hours of a day


def _days(choices: dict[str, Choice]) -> Iterator[tuple[str, str]]:
    """Pairs of APScheduler's day and day_of_week, each of which will do.

    crontab(5): if both fields are restricted (do not start with *), either one is enough.
    """
    day, weekday = choices["day"], choices["weekday"]
    if weekday.is_all:
        yield day.text(), "*"
    elif not day.is_star and not weekday.is_star:
        yield ",".join((day.text(), *weekday.special)), "*"
        if weekday.numbers:
            yield "*", weekday.text()
    else:
        if weekday.numbers:
            yield day.text(), weekday.text()
        if weekday.special:
            if not day.is_all:
                raise Wrong(weekday.place, "this cannot be limited to days by a step", "write * for the day")
            yield ",".join(weekday.special), "*"


@lru_cache(maxsize=8192)
def _field(name: str, text: str) -> BaseField:
    """One of APScheduler's fields; they hold no state, so lines share them."""
    return CronTrigger.FIELDS_MAP[name](name, text)


def _trigger(**texts: str) -> CronTrigger:
    """As CronTrigger's constructor makes it, but of shared fields: a third of the time and of the memory."""
    trigger = CronTrigger.__new__(CronTrigger)
    fields = [_field(name, texts.get(name, "*")) for name in CronTrigger.FIELD_NAMES]
    end = END.replace(tzinfo=UTC)
    trigger.__setstate__(
        {"version": 2, "timezone": UTC, "start_date": None, "end_date": end, "fields": fields, "jitter": None}
    )
    return trigger
