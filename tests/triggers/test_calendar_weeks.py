"""Numbers of weeks: against ISO's, and against a count of weeks by hand where they start on another day."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muster.triggers.providers.calendar import Calendar
from muster.triggers.weeks import in_weeks

DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")


def days(rrule: str, since: str, count: int) -> list[str]:
    calendar = Calendar(rrule=rrule, since=since)
    assert not list(calendar.problems())
    at = datetime(1940, 1, 1, tzinfo=UTC)
    found: list[str] = []
    while len(found) < count and (following := calendar.following(at, at)) is not None:
        at = following
        found.append(at.date().isoformat())
    return found


def test_a_week_without_a_day_means_that_of_its_begin() -> None:
    found = days("FREQ=YEARLY;BYWEEKNO=20", "2027-05-18T09:00:00", 3)
    assert found == ["2027-05-18", "2028-05-16", "2029-05-15"]


@pytest.mark.parametrize(
    ("rrule", "since", "expected"),
    [
        ("FREQ=YEARLY;BYWEEKNO=52;BYDAY=FR;WKST=SU", "2027-01-01", ["2027-01-01", "2027-12-31"]),
        ("FREQ=YEARLY;BYWEEKNO=53;BYDAY=FR;WKST=SU", "2027-01-01", ["2032-01-02"]),
        ("FREQ=YEARLY;BYWEEKNO=-52;BYDAY=MO", "2029-12-01", ["2029-12-31", "2030-12-30"]),
        (
            "FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO",
            "1997-05-12T09:00",
            ["1997-05-12", "1998-05-11", "1999-05-17"],
        ),  # RFC 5545
        ("FREQ=YEARLY;BYWEEKNO=1;BYDAY=MO", "1997-09-02", ["1997-12-29", "1999-01-04", "2000-01-03"]),
        ("FREQ=YEARLY;BYWEEKNO=-1;BYDAY=SU", "1997-09-02", ["1997-12-28", "1999-01-03", "2000-01-02"]),
        ("FREQ=YEARLY;BYWEEKNO=1,53;BYDAY=SA;BYMONTH=1", "2026-06-01", ["2027-01-02", "2027-01-09", "2028-01-08"]),
        ("FREQ=YEARLY;INTERVAL=2;BYWEEKNO=20", "2027-05-18", ["2027-05-18", "2029-05-15"]),
        ("FREQ=YEARLY;INTERVAL=2;BYWEEKNO=20", "2027-01-01", ["2027-05-21", "2029-05-18"]),
        ("FREQ=YEARLY;INTERVAL=2;BYWEEKNO=1;BYDAY=MO", "2027-01-04", ["2027-01-04", "2029-01-01", "2030-12-30"]),
        ("FREQ=YEARLY;INTERVAL=2;BYWEEKNO=53;BYDAY=SA", "2026-06-01", ["2027-01-02", "2033-01-01", "2049-01-02"]),
        ("FREQ=YEARLY;INTERVAL=2;BYWEEKNO=1", "2029-12-31", ["2029-12-31", "2031-12-29"]),
        ("FREQ=YEARLY;INTERVAL=2;BYWEEKNO=53", "2027-01-01", ["2027-01-01", "2032-12-31"]),
        (
            "FREQ=YEARLY;BYWEEKNO=1;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=1",
            "2028-06-01",
            ["2029-01-01", "2029-12-31", "2030-12-30", "2031-12-29"],
        ),
    ],
)
def test_weeks_over_new_year(rrule: str, since: str, expected: list[str]) -> None:
    assert days(rrule, since, len(expected)) == expected


@given(day=st.dates(date(1950, 1, 1), date(2190, 12, 31)))
def test_weeks_from_monday_are_those_of_iso(day: date) -> None:
    year, week, _ = day.isocalendar()
    weeks = date(year, 12, 28).isocalendar().week
    numbers = [number for number in range(-53, 54) if number and in_weeks(day, (number,), 0)]
    assert numbers == [week - weeks - 1, week]


@settings(max_examples=60)
@given(
    year=st.integers(1950, 2190), week_start=st.integers(0, 6), number=st.integers(-53, 53).filter(bool),
    weekday=st.integers(0, 6),
)  # fmt: skip
def test_weeks_from_any_day_are_those_counted_by_hand(year: int, week_start: int, number: int, weekday: int) -> None:
    expected = [
        begin + timedelta(days=(weekday - week_start) % 7)
        for each in range(year - 1, year + 3)
        for begin in _weeks(each, week_start)[number - 1 if number > 0 else number :][:1]
        if abs(number) <= len(_weeks(each, week_start))
    ]
    text = f"FREQ=YEARLY;BYWEEKNO={number};BYDAY={DAYS[weekday]};WKST={DAYS[week_start]}"
    wanted = [day.isoformat() for day in expected if date(year, 1, 1) <= day <= date(year + 1, 12, 31)]
    assert [day for day in days(text, f"{year}-01-01", 3) if day < f"{year + 2}"] == wanted


def _weeks(year: int, week_start: int) -> list[date]:
    """When each of a year's weeks starts: those with four days in it."""
    begins = (date(year, 1, 1) + timedelta(days=number) for number in range(-6, 366))
    return [
        begin
        for begin in begins
        if begin.weekday() == week_start and sum((begin + timedelta(days=day)).year == year for day in range(7)) >= 4
    ]
