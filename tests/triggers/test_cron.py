"""Crontab lines: parsed by the standard, mistakes with their place, and right where clocks are changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muster.triggers.providers.calendar import Calendar
from muster.triggers.providers.cron import Cron

START = datetime(2030, 1, 1, tzinfo=UTC)


def times(line: str, begin: str, count: int, zone: str = "UTC") -> list[str]:
    """The first due times after a local one, as local times."""
    info = ZoneInfo(zone)
    cron = Cron(cron=line, timezone=zone)
    assert not list(cron.problems())
    after = datetime.fromisoformat(begin).replace(tzinfo=info).astimezone(UTC)
    found = []
    for _ in range(count):
        due = cron.following(after, START)
        assert due is not None
        assert due > after
        after = due
        found.append(due.astimezone(info).isoformat(timespec="minutes"))
    return found


def days(line: str, begin: str = "2030-01-01", count: int = 4) -> list[str]:
    return [f"{datetime.fromisoformat(time):%a %d %b}" for time in times(line, begin, count)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("0 9 * * 0", "Sun 06 Jan"),
        ("0 9 * * 7", "Sun 06 Jan"),
        ("0 9 * * 1", "Mon 07 Jan"),
        ("0 9 * * sun", "Sun 06 Jan"),
        ("0 9 * * SAT", "Sat 05 Jan"),
        ("0 9 * feb *", "Fri 01 Feb"),
        ("0 9 * FEB-MAR *", "Fri 01 Feb"),
        ("@weekly", "Sun 06 Jan"),
        ("@Monthly", "Fri 01 Feb"),
        ("0 9 L * *", "Thu 31 Jan"),
        ("0 9 last * *", "Thu 31 Jan"),
        ("0 9 * * fri#2", "Fri 11 Jan"),
        ("0 9 * * 5#2", "Fri 11 Jan"),
        ("0 9 2nd fri * *", "Fri 11 Jan"),
        ("0 9 * * friL", "Fri 25 Jan"),
        ("0 9 * * last fri", "Fri 25 Jan"),
        ("0 9 ? * 3", "Wed 02 Jan"),
        ("0 9 L-3 * *", "Mon 28 Jan"),
        ("0 9 LW * *", "Thu 31 Jan"),
        ("0 9 15W feb *", "Fri 15 Feb"),
        ("0 9 12W * *", "Fri 11 Jan"),  # a Saturday
        ("0 9 13w * *", "Mon 14 Jan"),  # a Sunday
        ("0 9 1W jun *", "Mon 03 Jun"),  # a Saturday, and none before it
        ("0 9 31W mar *", "Fri 29 Mar"),  # a Sunday, and none after it
        ("0 9 L-1W 3 *", "Fri 29 Mar"),
        ("0 9 15W,L-3 * mon", "Mon 07 Jan"),
        ("0 9 15W,L-3,5 * ?", "Sat 05 Jan"),
    ],
)
def test_a_day_is_the_one_that_the_standard_means(line: str, expected: str) -> None:
    assert days(line, "2030-01-01T10:00", 1) == [expected]  # a Tuesday


def test_weekdays_may_go_over_the_end_of_the_week() -> None:
    assert days("0 9 * * 5-7") == ["Fri 04 Jan", "Sat 05 Jan", "Sun 06 Jan", "Fri 11 Jan"]
    assert days("0 9 * * sat-mon") == ["Sat 05 Jan", "Sun 06 Jan", "Mon 07 Jan", "Sat 12 Jan"]
    assert days("0 9 * * */2") == ["Tue 01 Jan", "Thu 03 Jan", "Sat 05 Jan", "Sun 06 Jan"]


def test_a_day_of_the_month_or_a_weekday_will_do_where_both_are_given() -> None:
    assert days("0 9 13 * fri") == ["Fri 04 Jan", "Fri 11 Jan", "Sun 13 Jan", "Fri 18 Jan"]
    assert days("0 9 1 * mon,wed#2") == ["Tue 01 Jan", "Mon 07 Jan", "Wed 09 Jan", "Mon 14 Jan"]


def test_days_that_are_others_in_each_month_are_those_of_calendar_rules() -> None:
    assert days("0 9 L-3 * *") == ["Mon 28 Jan", "Mon 25 Feb", "Thu 28 Mar", "Sat 27 Apr"]
    assert days("0 9 LW * *") == ["Thu 31 Jan", "Thu 28 Feb", "Fri 29 Mar", "Tue 30 Apr"]
    assert days("0 9 31W * *") == ["Thu 31 Jan", "Fri 29 Mar", "Fri 31 May", "Wed 31 Jul"]
    for line, rule in (("L-3", "BYMONTHDAY=-4"), ("LW", "BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1")):
        calendar = Calendar(rrule=f"FREQ=MONTHLY;{rule};BYHOUR=0;BYMINUTE=0;BYSECOND=0", since="2030-01-01")
        cron, after = Cron(cron=f"0 0 {line} * *"), START
        for _ in range(60):
            due = cron.following(after, START)
            assert due is not None
            assert due == calendar.following(after, START)
            after = due


@pytest.mark.parametrize("line", ["L-0", "L-31", "0W", "32W", "W", "L-"])
def test_a_day_that_no_month_has_is_refused(line: str) -> None:
    (problem,) = Cron(cron=f"0 0 {line} * *").problems()
    assert problem.column == 5
    assert "day" in problem.message


def test_a_day_that_never_comes_is_reported() -> None:
    (problem,) = Cron(cron="0 0 31W 2 *").problems()
    assert "never" in problem.message


@pytest.mark.parametrize("weekdays", ["0-6", "1-7", "mon-sun", "0,1,2,3,4,5,6", "0-6,fri#2"])
def test_weekdays_that_name_every_day_will_do_too(weekdays: str) -> None:
    assert days(f"0 9 13 * {weekdays}") == ["Tue 01 Jan", "Wed 02 Jan", "Thu 03 Jan", "Fri 04 Jan"]


def test_a_field_that_starts_with_a_star_does_not_widen_the_days() -> None:
    assert days("0 9 */2 * fri") == ["Fri 11 Jan", "Fri 25 Jan", "Fri 01 Feb", "Fri 15 Feb"]
    assert days("0 9 13 * */1") == ["Sun 13 Jan", "Wed 13 Feb", "Wed 13 Mar", "Sat 13 Apr"]


def test_six_fields_begin_with_seconds() -> None:
    cron = Cron(cron="*/20 59 23 31 12 *")
    first = cron.following(START, START)
    assert first == datetime(2030, 12, 31, 23, 59, tzinfo=UTC)
    assert cron.following(first, START) == first + timedelta(seconds=20)


@pytest.mark.parametrize(
    ("line", "column", "message"),
    [
        ("* * * *", 1, "a cron line has 5 or 6 fields, this has 4"),
        ("", 1, "this has 0"),
        ("60 * * * *", 1, "60 is not a valid minute: write 0 to 59"),
        ("0 24 * * *", 3, "24 is not a valid hour"),
        ("0 0 0 * *", 5, "0 is not a valid day"),
        ("0 0 * 13 *", 7, "13 is not a valid month"),
        ("0 0 * * 8", 9, "8 is not a valid weekday"),
        ("0 0 * janu *", 7, "'janu' is not a valid month"),
        ("0 0 * * mon-fry", 13, "'fry' is not a valid weekday"),
        ("5-3 * * * *", 1, "5-3 ends before it starts"),
        ("*/0 * * * *", 3, "'0' is not a step"),
        ("*/90 * * * *", 3, "a step of 90 exceeds the minute"),
        ("1,,2 * * * *", 3, "a part of the minute is empty"),
        ("0 0 * * fri#6", 13, "no month has a 6. weekday"),
        ("  x * * * *", 3, "'x' is not a valid minute"),
        ("? * * * *", 1, "'?' is not a valid minute"),
        ("٣ * * * *", 1, "'٣' is not a valid minute"),
        ("0 0 */2 * fri#2", 11, "this cannot be limited to days by a step"),
        ("@reboot", 1, "there is no '@reboot'"),
        ("0 0 30 2 *", 1, "it never fires: there is no such day"),
        ("0 0 31 4,6,9,11 *", 1, "it never fires"),
    ],
)
def test_what_is_wrong_is_reported_with_its_place(line: str, column: int, message: str) -> None:
    (problem,) = Cron(cron=line).problems()
    assert (problem.path, problem.line, problem.column) == ("cron", 1, column)
    assert message in problem.message


def test_all_that_is_wrong_is_reported_at_once() -> None:
    problems = list(Cron(cron="61 25 * * mond", timezone="Europe/Berln", jitter="soon").problems())
    assert [problem.path for problem in problems] == ["jitter", "timezone", "cron", "cron", "cron"]
    assert "Europe/Berlin" in problems[1].message
    assert "'mon'" in problems[4].hint


@pytest.mark.parametrize("zone", ["../../etc/passwd", "", "Europe", "europe/berlin", "UTC+1"])
def test_a_zone_is_one_of_the_database(zone: str) -> None:
    assert [problem.path for problem in Cron(cron="@daily", timezone=zone).problems()] == ["timezone"]


def test_a_leap_day_is_found() -> None:
    assert times("0 0 29 2 *", "2096-03-01", 2) == ["2104-02-29T00:00+00:00", "2108-02-29T00:00+00:00"]


@pytest.mark.parametrize(
    ("zone", "begin", "expected"),
    [
        ("Europe/Berlin", "2027-03-27T12:00", ["2027-03-28T03:30+02:00", "2027-03-29T02:30+02:00"]),
        ("America/New_York", "2027-03-13T12:00", ["2027-03-14T03:30-04:00", "2027-03-15T02:30-04:00"]),
        ("Australia/Lord_Howe", "2026-10-03T12:00", ["2026-10-04T02:30+11:00", "2026-10-05T02:30+11:00"]),
    ],
)
def test_a_time_that_does_not_exist_comes_later_and_once(zone: str, begin: str, expected: list[str]) -> None:
    assert times("30 2 * * *", begin, len(expected), zone) == expected


@pytest.mark.parametrize(
    ("zone", "line", "begin", "expected"),
    [
        ("Europe/Berlin", "30 2 * * *", "2026-10-24T12:00", ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]),
        ("America/New_York", "30 1 * * *", "2026-10-31T12:00", ["2026-11-01T01:30-04:00", "2026-11-02T01:30-05:00"]),
        ("Australia/Lord_Howe", "45 1 * * *", "2027-04-03T12:00", ["2027-04-04T01:45+11:00", "2027-04-05T01:45+10:30"]),
    ],
)
def test_a_time_that_exists_twice_comes_once(zone: str, line: str, begin: str, expected: list[str]) -> None:
    assert times(line, begin, 2, zone) == expected


def test_a_line_of_every_hour_goes_on_where_an_hour_comes_twice() -> None:
    assert times("*/30 * * * *", "2026-10-25T01:30", 6, "Europe/Berlin") == [
        "2026-10-25T02:00+02:00",
        "2026-10-25T02:30+02:00",
        "2026-10-25T02:00+01:00",
        "2026-10-25T02:30+01:00",
        "2026-10-25T03:00+01:00",
        "2026-10-25T03:30+01:00",
    ]


def test_hours_that_are_jumped_over_fall_together_with_those_after() -> None:
    assert times("0,30 2,3 * * *", "2027-03-28T01:00", 3, "Europe/Berlin") == [
        "2027-03-28T03:00+02:00",
        "2027-03-28T03:30+02:00",
        "2027-03-29T02:00+02:00",
    ]


def test_a_day_that_a_zone_left_out_falls_together_with_the_next() -> None:
    assert times("0 12 * * *", "2011-12-28T13:00", 3, "Pacific/Apia") == [
        "2011-12-29T12:00-10:00",
        "2011-12-31T12:00+14:00",
        "2012-01-01T12:00+14:00",
    ]


ZONES = st.sampled_from(
    [
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "Asia/Tokyo",
        "Africa/Casablanca",
        "Asia/Tehran",
    ]
)


def some(low: int, high: int, most: int = 4) -> st.SearchStrategy[frozenset[int] | None]:
    return st.none() | st.frozensets(st.integers(low, high), min_size=1, max_size=most)


def written(numbers: frozenset[int] | None) -> str:
    return "*" if numbers is None else ",".join(str(number) for number in sorted(numbers))


def has(numbers: frozenset[int] | None, *values: int) -> bool:
    return numbers is None or any(value in numbers for value in values)


Fields = tuple[frozenset[int] | None, ...]
WEEKDAYS = some(0, 7) | st.just(frozenset(range(7)))
FIELDS = st.tuples(some(0, 59), some(0, 23), some(1, 31, 12), some(1, 12, 8), WEEKDAYS)
MOMENTS = st.integers(int(datetime(2024, 1, 1, tzinfo=UTC).timestamp()), int(START.timestamp())).map(
    lambda seconds: datetime.fromtimestamp(seconds, UTC)
)


@settings(deadline=None, max_examples=80)
@given(fields=FIELDS, zone=ZONES, after=MOMENTS)
def test_it_agrees_with_stepping_through_the_minutes(fields: Fields, zone: str, after: datetime) -> None:
    """Crontab(5) by the letter, on local times as they come; only for some days, for it is slow."""
    minute, hour, day, month, weekday = fields

    def is_due(wall: datetime) -> bool:
        sunday_first = wall.isoweekday() % 7
        fits = has(day, wall.day), has(weekday, sunday_first, sunday_first or 7)
        is_day = any(fits) if day is not None and weekday is not None else all(fits)
        return has(minute, wall.minute) and has(hour, wall.hour) and has(month, wall.month) and is_day

    def expected(after: datetime) -> datetime | None:
        at = after.replace(second=0, microsecond=0)
        for _ in range(3 * 1440):
            at += timedelta(minutes=1)
            wall = at.astimezone(info)
            if is_due(wall) and (wall.fold == 0 or hour is None):
                return at
            shift = wall.utcoffset() - (at - timedelta(hours=3)).astimezone(info).utcoffset()  # type: ignore[operator]
            if shift > timedelta(0) and is_due(gone := (wall - shift).replace(tzinfo=None)):
                there = gone.replace(tzinfo=info).astimezone(UTC).astimezone(info).replace(tzinfo=None)
                if there != gone:  # it was jumped over
                    return at
        return None

    info = ZoneInfo(zone)
    cron = Cron(cron=" ".join(written(field) for field in fields), timezone=zone)
    for _ in range(3):
        due = cron.following(after, START)
        wanted = expected(after)
        if wanted is None:
            assert due is None or due > after + timedelta(days=2)
            return
        assert due == wanted
        after = due


@settings(deadline=None)
@given(
    line=st.sampled_from(["*/7 * * * *", "30 2 * * *", "0 0 L * *", "15,45 1-3 * * sun", "*/20 * * * * *", "@hourly"]),
    zone=ZONES,
    after=MOMENTS,
)
def test_times_only_go_forward_and_do_not_depend_on_where_one_asks_from(line: str, zone: str, after: datetime) -> None:
    cron, fresh = (Cron(cron=line, timezone=zone) for _ in range(2))
    first = cron.following(after, START)
    assert first is not None
    assert first > after
    second = cron.following(first, START)
    assert second is not None
    assert second > first
    middle = after + (first - after) / 2
    assert fresh.following(middle, START) == first
