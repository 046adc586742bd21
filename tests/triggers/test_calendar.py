"""Recurrence rules: RFC 5545's own examples, mistakes with their place, and no endless search."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from time import process_time
from zoneinfo import ZoneInfo

import pytest
from dateutil.rrule import rrulestr
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from muster.triggers.providers.calendar import Calendar

APPLIED = datetime(2030, 1, 31, 12, 0, 0, 250_000, tzinfo=UTC)  # a Thursday


def times(calendar: Calendar, count: int, after: datetime = APPLIED) -> list[str]:
    """The next due times, as local ones."""
    assert not list(calendar.problems())
    found: list[str] = []
    due: datetime | None = after
    while len(found) < count and due is not None and (due := calendar.following(due, APPLIED)) is not None:
        found.append(due.astimezone(calendar.zone()).replace(tzinfo=None).isoformat(timespec="minutes"))
    return found


def test_what_a_rule_does_not_say_is_that_of_its_begin() -> None:
    assert times(Calendar(rrule="FREQ=WEEKLY"), 2) == ["2030-02-07T12:00", "2030-02-14T12:00"]
    assert times(Calendar(rrule="freq=monthly", since="2030-01-15T08:30"), 1) == ["2030-02-15T08:30"]


def test_a_prefix_is_allowed() -> None:
    assert times(Calendar(rrule="RRULE:FREQ=DAILY;BYHOUR=9;BYMINUTE=0"), 1) == ["2030-02-01T09:00"]


def test_a_rule_ends_by_itself_or_by_its_settings() -> None:
    since = "2030-01-31T13:00"
    expected = ["2030-01-31T13:00", "2030-02-01T13:00"]
    assert times(Calendar(rrule="FREQ=DAILY;COUNT=2", since=since), 9) == expected
    assert times(Calendar(rrule="FREQ=DAILY", count=2, since=since), 9) == expected
    assert times(Calendar(rrule="FREQ=DAILY;UNTIL=20300202T000000Z", since=since), 9) == expected
    assert times(Calendar(rrule="FREQ=DAILY", until="2030-02-01", since=since), 9) == expected
    assert times(Calendar(rrule="FREQ=DAILY", until="2030-02-01T13:00", since=since), 9) == expected
    assert times(Calendar(rrule="FREQ=DAILY", until="2030-02-01T12:59:59Z", since=since), 9) == expected[:1]


@pytest.mark.parametrize("count", [1, 3])
def test_a_count_without_a_begin_is_that_of_the_times_after_it_was_applied(count: int) -> None:
    expected = [f"2030-02-0{day}T12:00" for day in range(1, count + 1)]
    assert times(Calendar(rrule=f"FREQ=DAILY;COUNT={count}"), 9) == expected
    assert times(Calendar(rrule="FREQ=DAILY", count=count), 9) == expected


def test_rules_and_dates_come_together_each_time_once() -> None:
    calendar = Calendar(
        rrule=("FREQ=WEEKLY;BYDAY=FR;COUNT=2", "FREQ=MONTHLY;BYMONTHDAY=1,15"),
        dates=("2030-02-02", "2030-02-15T13:00", "2030-02-28T23:30Z"),
        since="2030-01-31T13:00",
        timezone="Europe/Berlin",
    )
    assert times(calendar, 6) == [
        "2030-02-01T13:00", "2030-02-02T00:00", "2030-02-08T13:00", "2030-02-15T13:00", "2030-03-01T00:30",
        "2030-03-01T13:00",
    ]  # fmt: skip
    few = replace(calendar, count=4, except_=("2030-02-08",))
    assert times(few, 9) == ["2030-02-01T13:00", "2030-02-02T00:00", "2030-02-15T13:00"]
    assert times(Calendar(dates=("2030-02-02T08:00", "2029-01-01")), 9) == ["2030-02-02T08:00"]


def test_what_an_icalendar_file_has_beside_the_rule_is_reported_with_its_place_here() -> None:
    text = "RRULE:FREQ=DAILY\nEXRULE:FREQ=WEEKLY;BYDAY=SA\nRDATE:20300102T000000\nRRULE:FREQ=WEEKLY"
    found = [(it.line, it.message.split()[0], it.hint) for it in Calendar(rrule=text).problems()]
    assert [(line, word) for line, word, _ in found] == [(2, "EXRULE"), (3, "RDATE"), (4, "there")]
    assert ["except" in found[0][2], "dates" in found[1][2], "list of rules" in found[2][2]] == [True] * 3


def test_what_is_wrong_in_a_list_is_reported_with_its_place_in_it() -> None:
    (problem,) = Calendar(rrule=("FREQ=DAILY", "FREQ=DAYLY")).problems()
    assert (problem.path, problem.column) == ("rrule[1]", 6)
    (problem,) = Calendar().problems()
    assert (problem.path, problem.message) == ("rrule", "missing")


def test_a_count_is_counted_from_the_begin() -> None:
    assert times(Calendar(rrule="FREQ=DAILY;COUNT=30", since="2030-01-03T15:00"), 9) == [
        "2030-01-31T15:00",
        "2030-02-01T15:00",
    ]


def test_exceptions_are_left_out_and_count() -> None:
    calendar = Calendar(
        rrule="FREQ=HOURLY;COUNT=30", since="2030-01-31T12:00", except_=("2030-01-31T14:00", "2030-02-01"),
        timezone="Europe/Berlin",
    )  # fmt: skip
    found = times(calendar, 99)
    assert found[:2] == ["2030-01-31T15:00", "2030-01-31T16:00"]
    assert found[-1] == "2030-01-31T23:00"


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYHOUR=9,17;BYSETPOS=-1", ["2030-01-31T17:00", "2030-02-28T17:00"]),
        ("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYHOUR=9,17;BYSETPOS=3,-2", ["2030-02-04T09:00", "2030-02-28T09:00"]),
        ("FREQ=YEARLY;BYMONTH=2,5;BYMONTHDAY=1;BYHOUR=9,17;BYSETPOS=4,2", ["2030-02-01T17:00", "2030-05-01T17:00"]),
        ("FREQ=WEEKLY;BYDAY=MO,TH,FR;BYSETPOS=1", ["2030-02-04T12:00", "2030-02-11T12:00"]),
        ("FREQ=DAILY;BYHOUR=9,13,17;BYMINUTE=0,30;BYSETPOS=3", ["2030-01-31T13:00", "2030-02-01T13:00"]),
    ],
)
def test_a_place_is_counted_among_all_times_of_its_period(rule: str, expected: list[str]) -> None:
    assert times(Calendar(rrule=rule), 2) == expected


EACH_DAY = f"BYMONTHDAY={','.join(map(str, range(1, 32)))}"
EACH_SECOND = ";".join(
    f"BY{unit}={','.join(map(str, range(most)))}" for unit, most in (("HOUR", 24), ("MINUTE", 60), ("SECOND", 60))
)


@pytest.mark.parametrize(
    ("rule", "after", "expected"),
    [
        (f"FREQ=YEARLY;{EACH_DAY};{EACH_SECOND}", "2030-11-21T12:00:00", "2030-11-21T12:00:01"),
        (f"FREQ=MONTHLY;{EACH_DAY};{EACH_SECOND}", "2030-11-30T23:59:59", "2030-12-01T00:00:00"),
        (f"FREQ=YEARLY;{EACH_DAY};{EACH_SECOND};BYSETPOS=-1", "2030-11-21T12:00:00", "2030-12-31T23:59:59"),
        (f"FREQ=DAILY;{EACH_SECOND}", "2030-11-21T12:00:00", "2030-11-21T12:00:01"),
    ],
)
def test_a_rule_that_writes_out_every_second_holds_nobody_up(rule: str, after: str, expected: str) -> None:
    calendar = Calendar(rrule=rule)
    begin = process_time()
    found = calendar.following(datetime.fromisoformat(after).replace(tzinfo=UTC), APPLIED)
    assert process_time() - begin < 1  # writing out a month of them takes far longer
    assert found == datetime.fromisoformat(expected).replace(tzinfo=UTC)


def test_a_local_time_stays_what_it_is_where_clocks_are_changed() -> None:
    calendar = Calendar(rrule="FREQ=DAILY;BYHOUR=2;BYMINUTE=30", since="2027-03-27T00:00", timezone="Europe/Berlin")
    before = datetime(2027, 3, 26, 12, tzinfo=UTC)
    assert times(calendar, 3, before) == ["2027-03-27T02:30", "2027-03-28T03:30", "2027-03-29T02:30"]
    before = datetime(2027, 10, 30, 12, tzinfo=UTC)
    assert times(calendar, 2, before) == ["2027-10-31T02:30", "2027-11-01T02:30"]


@pytest.mark.parametrize(
    ("rule", "column", "message"),
    [
        ("", 1, "FREQ is missing"),
        ("BYDAY=MO", 1, "FREQ is missing"),
        ("FREQ=DAYLY", 6, "'DAYLY' is not a valid FREQ"),
        ("FREQ=DAILY;INTERVAL=0", 21, "'0' is not a valid INTERVAL"),
        ("FREQ=DAILY;BYHOUR=9,24", 19, "'9,24' is not a valid BYHOUR"),
        ("FREQ=DAILY;BYDAY=XX", 18, "'XX' is not a valid BYDAY"),
        ("FREQ=WEEKLY;BYDAY=2FR", 19, "cannot be combined with FREQ=WEEKLY"),
        ("FREQ=WEEKLY;BYMONTHDAY=1", 24, "BYMONTHDAY cannot be combined with"),
        ("FREQ=DAILY;BYSETPOS=1", 21, "BYSETPOS needs another"),
        ("FREQ=DAILY;COUNT=1;UNTIL=20300101", 26, "COUNT or UNTIL"),
        ("FREQ=DAILY;UNTIL=tomorrow", 18, "is not a valid UNTIL"),
        ("FREQ=DAILY;BYDAI=MO", 18, "there is no BYDAI"),
        ("FREQ=DAILY;FREQ=DAILY", 17, "is a duplicate"),
        ("DTSTART;TZID=Europe/Berlin:20300101T000000\nRRULE:FREQ=DAILY", 1, "DTSTART is not part of a rule"),
        ("EXDATE:20300101T000000\nFREQ=DAILY", 1, "EXDATE is not part of a rule"),
        ("FREQ=DAILY;UNTIL=20301301", 18, "is not a valid UNTIL"),
        ("FREQ=DAILY;SKIP=BACKWARD", 17, "SKIP (RFC 7529) is not supported"),
        ("FREQ=YEARLY;BYWEEKNO=1;BYDAY=1MO", 30, "cannot be combined with BYWEEKNO"),
        ("FREQ=DAILY;COUNT=10001", 18, "is not a valid COUNT"),
        ("FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30", 1, "it never fires"),
        ("FREQ=SECONDLY;INTERVAL=2;BYSETPOS=2;BYMONTH=1", 1, "it never fires"),
        ("FREQ=WEEKLY;BYDAY=MO;BYSETPOS=8", 1, "it never fires"),
        ("FREQ=MINUTELY;BYMONTH=2;BYMONTHDAY=30", 1, "it never fires"),
        ("FREQ=SECONDLY;INTERVAL=86400;BYSECOND=61", 39, "is not a valid BYSECOND"),
        ("FREQ=DAILY;UNTIL=20010101", 1, "it never fires"),
    ],
)
def test_what_is_wrong_is_reported_with_its_place(rule: str, column: int, message: str) -> None:
    (problem,) = Calendar(rrule=rule).problems()
    assert (problem.path, problem.line, problem.column) == ("rrule", 1, column)
    assert message in problem.message


@pytest.mark.parametrize(
    ("calendar", "path"),
    [
        (Calendar(rrule="FREQ=DAILY", since="soon"), "since"),
        (Calendar(rrule="FREQ=DAILY", until="2030-13-01"), "until"),
        (Calendar(rrule="FREQ=DAILY", except_=("2030-01-01", "never")), "except[1]"),
        (Calendar(rrule="FREQ=DAILY", dates=("noon",)), "dates[0]"),
        (Calendar(rrule="FREQ=DAILY", since="0001-01-01"), "since"),
        (Calendar(rrule="FREQ=DAILY;UNTIL=00010101", timezone="Asia/Tokyo"), "rrule"),
        (Calendar(rrule="FREQ=DAILY", timezone="Mars"), "timezone"),
        (Calendar(rrule="FREQ=DAILY;COUNT=2", count=2), "count"),
        (Calendar(rrule="FREQ=DAILY;UNTIL=20300101", until="2030-01-01"), "until"),
        (Calendar(rrule="FREQ=DAILY", since="2030-01-02", until="2030-01-01"), "rrule"),
        (Calendar(rrule="FREQ=DAILY;COUNT=1", since="2030-01-02", except_=("2030-01-02",)), "rrule"),
    ],
)
def test_other_faults_are_reported_at_their_field(calendar: Calendar, path: str) -> None:
    assert [problem.path for problem in calendar.problems()] == [path]


@pytest.mark.parametrize(
    "rule",
    ["FREQ=SECONDLY;INTERVAL=2;BYSECOND=1", "FREQ=HOURLY;INTERVAL=24;BYHOUR=5", "FREQ=DAILY;INTERVAL=7;BYDAY=MO"],
)
def test_an_interval_that_always_misses_is_reported(rule: str) -> None:
    (problem,) = Calendar(rrule=rule, since="2030-01-31T06:00:00").problems()
    assert problem.message == "it never fires"


def test_an_end_beyond_all_years_is_no_end() -> None:
    assert times(Calendar(rrule="FREQ=DAILY;UNTIL=99991231T235959Z"), 1) == ["2030-02-01T12:00"]
    assert times(Calendar(rrule="FREQ=DAILY", until="9999-12-31", timezone="Asia/Tokyo"), 1) == ["2030-02-01T21:00"]


def test_a_rule_that_is_over_has_no_next_time_and_no_fault() -> None:
    assert times(Calendar(rrule="FREQ=DAILY;COUNT=3", since="2001-01-01"), 1) == []


FREE = st.sampled_from(["BYMONTH=1,6", "BYMONTHDAY=1,-1", "BYDAY=MO,FR", "BYHOUR=0,9", "BYMINUTE=0,30", "BYSECOND=15"])


@settings(deadline=None, max_examples=80)
@given(
    freq=st.sampled_from(["YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY"]),
    interval=st.integers(1, 5),
    parts=st.sets(FREE, max_size=3),
    start=st.sampled_from([1, 27, 29, 31]),
    week=st.sampled_from(["MO", "SU", "TH"]),
    ahead=st.integers(0, 10**6),
)
def test_it_agrees_with_dateutil_asked_from_the_begin(
    freq: str, interval: int, parts: set[str], start: int, week: str, ahead: int
) -> None:
    if freq == "WEEKLY":
        parts -= {"BYMONTHDAY=1,-1"}
    text = ";".join((f"FREQ={freq}", f"INTERVAL={interval}", f"WKST={week}", *sorted(parts)))
    begin = datetime.fromisoformat(f"2029-12-{start:02}T09:30:15")
    after = begin + timedelta(minutes=ahead if freq != "MINUTELY" else ahead % 10**4)
    calendar = Calendar(rrule=text, since=begin.isoformat())
    try:
        expected = list(rrulestr(text, dtstart=begin).xafter(after, count=3))
    except ValueError:  # it never fires
        expected = []
    if len(expected) < 3:
        return
    found, at = [], after.replace(tzinfo=UTC)
    for _ in expected:
        due = calendar.following(at, APPLIED)
        assert due is not None
        found.append(due.replace(tzinfo=None))
        at = due
    assert found == expected


def test_a_zone_is_known_to_whoever_shows_the_times() -> None:
    assert Calendar(rrule="FREQ=DAILY", timezone="Asia/Tokyo").zone() == ZoneInfo("Asia/Tokyo")
