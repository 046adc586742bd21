"""Parses the fields of a crontab line, to numbers and to APScheduler's notation."""

from __future__ import annotations

import re
from calendar import FRIDAY, monthrange
from collections.abc import Iterator
from datetime import date, timedelta
from functools import lru_cache
from typing import Final, NamedTuple

import msgspec

from muster.blueprints.suggest import did_you_mean
from muster.triggers.day_times import Numbers

DAY: Final = timedelta(days=1)
WEEKDAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
NTH: Final = ("1st", "2nd", "3rd", "4th", "5th", "last")


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One field of a line."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    """Names of the numbers, starting with `first`."""
    first: int = 0

    @property
    def is_day(self) -> bool:
        """Returns whether it selects the day."""
        return self.name in {"day", "weekday"}


FIELDS: Final = {
    field.name: field
    for field in (
        Field(name="second", low=0, high=59),
        Field(name="minute", low=0, high=59),
        Field(name="hour", low=0, high=23),
        Field(name="day", low=1, high=31),
        Field(name="month", low=1, high=12, names=MONTHS, first=1),
        Field(name="weekday", low=0, high=7, names=WEEKDAYS),
    )
}
"""In the order of a line."""


class Wrong(Exception):  # noqa: N818 - it becomes a problem
    """A mistake in a line, with its place."""

    def __init__(self, place: int, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.place, self.message, self.hint = place, message, hint


class MonthDay(NamedTuple):
    """A day that differs from month to month."""

    number: int
    """The day, or the number of days before the last one."""
    is_last: bool
    is_near: bool
    """Whether it selects the nearest weekday (Monday to Friday) in the same month."""

    def date(self, year: int, month: int) -> date | None:
        """Returns the day in a month; None if the month does not have it."""
        most = monthrange(year, month)[1]
        number = most - self.number if self.is_last else self.number
        if not 1 <= number <= most:
            return None
        found = date(year, month, number)
        weekend = found.weekday() - FRIDAY
        if not self.is_near or weekend <= 0:
            return found
        if weekend == 1:  # Saturday
            return found - DAY if number > 1 else found + 2 * DAY
        return found + DAY if number < most else found - 2 * DAY


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """The values that a field selects."""

    numbers: Numbers
    """Weekdays count from Monday = 0, as in Python and APScheduler."""
    special: tuple[str, ...]
    """`last`, `2nd fri`: APScheduler's notation for days without a fixed number."""
    month_days: tuple[MonthDay, ...] = ()
    """`L-3`, `15W`: days for which APScheduler has no notation."""
    is_star: bool
    """Whether it starts with `*`; then it does not restrict the day (crontab(5))."""
    plain: str
    """The numbers in APScheduler's notation."""

    @property
    def is_all(self) -> bool:
        """Returns whether it selects every value."""
        return self.plain == "*"

    def text(self) -> str:
        """Returns the field in APScheduler's notation."""
        return ",".join(part for part in (self.plain, *self.special) if part)


@lru_cache(maxsize=8192)
def choice(name: str, text: str) -> Choice:
    """Parses the text of a field; lines share the result.

    Raises:
        Wrong: the text is invalid; with the place.
    """
    field = FIELDS[name]
    numbers: set[int] = set()
    special: list[str] = []
    month_days: list[MonthDay] = []
    plain: list[str] = []
    start = 0
    for item in text.lower().split(","):
        word = _special(field, item, start)
        if word:
            special.append(word)
        elif field.name == "day" and (day := _month_day(item, start)):
            month_days.append(day)
        else:
            found, written = _numbers(field, item, start)
            numbers |= found
            plain.append(written)
        start += len(item) + 1
    if field.name == "weekday":
        numbers = {(number - 1) % 7 for number in numbers}
        plain = ["*"] if len(numbers) == 7 else [str(number) for number in sorted(numbers)]  # noqa: PLR2004
    return Choice(
        numbers=tuple(sorted(numbers)),
        special=tuple(special),
        month_days=tuple(month_days),
        is_star=text.startswith(("*", "?")),
        plain="*" if "*" in plain else ",".join(plain),
    )


_ITEM: Final = re.compile(r"(?:(?P<star>\*|\?)|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>\w+))?")
_DAY: Final = "|".join((*WEEKDAYS, "[0-7]"))
_NTH_DAY: Final = re.compile(rf"(?P<nth>{'|'.join(NTH)})\s+(?P<day>{_DAY})")
_HASH_DAY: Final = re.compile(rf"(?P<day>{_DAY})#(?P<nth>\w+)")
_MONTH_DAY: Final = re.compile(r"(?P<last>l)(?:-(?P<before>\d{1,2}))?(?P<near>w)?|(?P<day>\d{1,2})w")
_LAST_DAY: Final = re.compile(rf"(?P<day>{_DAY})l")


def _special(field: Field, item: str, place: int) -> str:
    """Returns APScheduler's notation for a day without a fixed number; empty for other items."""
    if field.name == "day" and item in {"l", "last"}:
        return "last"
    if field.is_day and (found := _NTH_DAY.fullmatch(item)):
        return f"{found['nth']} {_weekday(found['day'])}"
    if field.name == "weekday" and (found := _HASH_DAY.fullmatch(item)):
        if found["nth"] not in {"1", "2", "3", "4", "5", "l"}:
            raise Wrong(place + item.index("#") + 1, f"no month has a {found['nth']}. weekday", "write #1 to #5, or #L")
        return f"{NTH[-1] if found['nth'] == 'l' else NTH[int(found['nth']) - 1]} {_weekday(found['day'])}"
    if field.name == "weekday" and (found := _LAST_DAY.fullmatch(item)):
        return f"last {_weekday(found['day'])}"
    return ""


def _month_day(item: str, place: int) -> MonthDay | None:
    """Parses `L-3`, `15W` or `LW`; returns None for other items."""
    found = _MONTH_DAY.fullmatch(item)
    if found is None:
        return None
    most = FIELDS["day"].high
    if (found["before"] and not 1 <= int(found["before"]) < most) or (
        found["day"] and not 1 <= int(found["day"]) <= most
    ):
        raise Wrong(place, f"no month has a day {item}", "write L-1 to L-30, or 1W to 31W")
    if found["last"]:
        return MonthDay(int(found["before"] or 0), is_last=True, is_near=bool(found["near"]))
    return MonthDay(int(found["day"]), is_last=False, is_near=True)


def _weekday(text: str) -> str:
    return WEEKDAYS[int(text) % 7] if text.isdigit() else text


def _numbers(field: Field, item: str, place: int) -> tuple[set[int], str]:
    """Parses `*/5`, `mon-fri`, `1-10/3` or `7`; returns its numbers, and APScheduler's notation."""
    found = _ITEM.fullmatch(item)
    if found is None or (found["star"] == "?" and not field.is_day):
        raise _unknown(field, item, place)
    step = _step(field, found, place)
    if found["star"]:
        last = 6 if field.name == "weekday" else field.high
        return set(range(field.low, last + 1, step)), "*" if step == 1 else f"*/{step}"
    first = _number(field, found["first"], place)
    last = _last(field, found, first, place)
    if last < first:
        if field.name != "weekday":
            hint = f"write {found['last']}-{found['first']}, or two parts with a comma"
            raise Wrong(place, f"{found['first']}-{found['last']} ends before it starts", hint)
        last += 7
    chosen = list(range(first, last + 1, step))
    numbers = {number % 7 for number in chosen} if field.name == "weekday" else set(chosen)
    if len(chosen) == 1:
        return numbers, str(first)
    return numbers, f"{first}-{last}" if step == 1 else f"{first}-{last}/{step}"


def _last(field: Field, found: re.Match[str], first: int, place: int) -> int:
    if found["last"] is not None:
        return _number(field, found["last"], place + found.start("last"))
    if found["step"] is not None:  # `5/15`: starting at 5
        return 6 if field.name == "weekday" else field.high
    return first


def _step(field: Field, found: re.Match[str], place: int) -> int:
    if found["step"] is None:
        return 1
    at = place + found.start("step")
    if not found["step"].isdecimal() or int(found["step"]) == 0:
        raise Wrong(at, f"{found['step']!r} is not a step", "write a whole number of at least 1")
    step = int(found["step"])
    if step > field.high - field.low:
        hint = "a step starts again with each cycle of its field; for a longer interval, use the provider interval"
        raise Wrong(at, f"a step of {step} exceeds the {field.name} ({field.low}-{field.high})", hint)
    return step


def _number(field: Field, word: str, place: int) -> int:
    if word in field.names:
        return field.names.index(word) + field.first
    if not word.isdecimal() or not word.isascii():
        raise _unknown(field, word, place)
    if not field.low <= int(word) <= field.high:
        raise Wrong(place, f"{word} is not a valid {field.name}: write {field.low} to {field.high}")
    return int(word)


def _unknown(field: Field, item: str, place: int) -> Wrong:
    if not item:
        return Wrong(place, f"a part of the {field.name} is empty", "remove the comma")
    hint = did_you_mean(item, field.names) if field.names and item.isalpha() else "; ".join(_examples(field))
    return Wrong(place, f"{item[:40]!r} is not a valid {field.name}", hint)


def _examples(field: Field) -> Iterator[str]:
    yield f"write *, {field.low}, {field.low}-{field.high}, or */2"
    if field.name == "day":
        yield "L for the last day of the month, L-3, 15W for the weekday nearest to the 15th, LW, or 2nd fri"
    if field.name == "weekday":
        yield "fri, fri#2 for the second Friday, or friL for the last one"
