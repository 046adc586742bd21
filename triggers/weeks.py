"""Week numbers (RFC 5545 §3.3.10): week 1 is the first with four days in its year."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, timedelta

WEEK = 7


def in_weeks(day: date, numbers: Collection[int], week_start: int) -> bool:
    """Returns whether a day is in one of these weeks of a year; -1 is the last week.

    A week belongs to the year of its fourth day, including its days in the previous or next year.
    """
    fourth = _fourth(day, week_start)
    number = (_ordinal(fourth) - 1) // WEEK + 1
    if number in numbers:
        return True
    left = (_ordinal(date(fourth.year, 12, 31)) - _ordinal(fourth)) // WEEK
    return -1 - left in numbers


def year_of(day: date, week_start: int) -> int:
    """Returns the year that the week of a day belongs to."""
    return _fourth(day, week_start).year


def _fourth(day: date, week_start: int) -> date:
    return day + timedelta(days=3 - (day.weekday() - week_start) % WEEK)


def _ordinal(day: date) -> int:
    return day.timetuple().tm_yday
