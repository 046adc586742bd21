"""The local time identifies a firing, even if hosts have different data of the zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import pytest

from muster.triggers import crontab
from muster.triggers.providers.calendar import Calendar
from muster.triggers.providers.cron import Cron, Times
from muster.triggers.providers.interval import Interval
from muster.triggers.providers.once import Once
from muster.triggers.zones import Zone

BERLIN = "Europe/Berlin"


def key(line: str, zone: tzinfo, after: str) -> tuple[str, datetime]:
    """What a host that knows a zone so makes of a line: the key of its next firing, and when that is."""
    read = crontab.read(line)
    assert isinstance(read, crontab.Crontab)
    times = Times(read, Zone(BERLIN, zone))
    due = times.following(datetime.fromisoformat(after).astimezone(UTC))
    assert due is not None
    return times.key(due), due


def fixed(minutes: int) -> timezone:
    return timezone(timedelta(minutes=minutes))


@pytest.mark.parametrize(
    ("line", "after", "other", "expected"),
    [
        ("44 12 * * *", "2027-06-01T00:00Z", fixed(118), "2027-06-01T12:44:00[Europe/Berlin]"),
        ("44 12 * * *", "2027-06-01T00:00Z", fixed(60), "2027-06-01T12:44:00[Europe/Berlin]"),
        # one host knows that clocks are put forward, another does not
        ("30 2 * * *", "2027-03-28T00:00Z", fixed(60), "2027-03-28T02:30:00[Europe/Berlin]"),
        # and back
        ("30 2 * * *", "2027-10-30T23:00Z", fixed(60), "2027-10-31T02:30:00[Europe/Berlin]"),
    ],
)
def test_hosts_that_differ_over_a_zone_fire_once(line: str, after: str, other: tzinfo, expected: str) -> None:
    assert {key(line, zone, after)[0] for zone in (ZoneInfo(BERLIN), other)} == {expected}


def test_a_time_that_comes_twice_is_two() -> None:
    first, due = key("0 * * * *", ZoneInfo(BERLIN), "2027-10-30T23:30Z")
    second, _ = key("0 * * * *", ZoneInfo(BERLIN), due.isoformat())
    assert (first, second) == ("2027-10-31T02:00:00[Europe/Berlin]", "2027-10-31T02:00:00+01:00[Europe/Berlin]")


def test_what_does_not_go_by_a_wall_clock_is_known_by_its_time_in_utc() -> None:
    start = datetime(2027, 10, 30, tzinfo=UTC)
    for schedule in (
        Cron(cron="0 12 * * *"),
        Calendar(rrule="FREQ=HOURLY;INTERVAL=12", timezone=BERLIN),
        Interval(every="12h"),
        Once(at="2027-10-30T12:00:00Z"),
    ):
        due = schedule.following(start, start)
        assert due is not None
        assert schedule.key(due, start) == "2027-10-30T12:00:00Z"


@pytest.mark.parametrize(
    ("calendar", "expected"),
    [
        (Calendar(rrule="FREQ=DAILY;BYHOUR=2;BYMINUTE=30;BYSECOND=0"), "2027-03-28T02:30:00[Europe/Berlin]"),
        (Calendar(rrule="FREQ=HOURLY;BYHOUR=3;BYMINUTE=30;BYSECOND=0"), "2027-03-28T03:30:00[Europe/Berlin]"),
        (Calendar(dates=("2027-03-28T04:00",)), "2027-03-28T04:00:00[Europe/Berlin]"),
    ],
)
def test_so_it_is_with_calendars(calendar: Calendar, expected: str) -> None:
    start = datetime(2027, 3, 28, tzinfo=UTC)
    calendar = Calendar(rrule=calendar.rrule, dates=calendar.dates, timezone=BERLIN)
    due = calendar.following(start, start)
    assert due is not None
    assert calendar.key(due, start) == expected
