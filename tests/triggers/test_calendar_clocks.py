"""Recurrence rules where clocks are changed: each time once, no two too close, counted as they are fired."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from itertools import islice, pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from dateutil.rrule import rrulestr
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from muster.triggers.providers.calendar import Calendar
from tests.triggers.clock_stand_in import Broker, Hands, fired, running, trigger

EARLY = datetime(1970, 1, 1, tzinfo=UTC)

CHANGES = (
    ("Europe/Berlin", date(2027, 3, 28)),
    ("Europe/Berlin", date(2027, 10, 31)),
    ("America/New_York", date(2027, 3, 14)),
    ("America/New_York", date(2027, 11, 7)),
    ("Australia/Lord_Howe", date(2027, 4, 4)),  # by half an hour
    ("Australia/Lord_Howe", date(2027, 10, 3)),
    ("America/Nuuk", date(2027, 3, 27)),  # from 23:00 to midnight
    ("America/Nuuk", date(2027, 10, 30)),
    ("America/Caracas", date(2007, 12, 9)),  # half an hour back
    ("Pacific/Apia", date(2011, 12, 30)),  # a day that never was
    ("Pacific/Kiritimati", date(1994, 12, 31)),  # another, at the end of a year
    ("Asia/Kathmandu", date(2027, 1, 1)),
)


def due(calendar: Calendar, count: int, after: datetime = EARLY) -> list[datetime]:
    """The next due times."""
    assert not list(calendar.problems())
    found: list[datetime] = []
    while len(found) < count and (after := calendar.following(after, EARLY) or EARLY) != EARLY:
        found.append(after)
    return found


def local(calendar: Calendar, count: int = 10) -> list[str]:
    """The same, as clocks show them."""
    return [f"{each.astimezone(calendar.zone()):%d %H:%M%z}" for each in due(calendar, count)]


def berlin(rrule: str, since: str, **more: Any) -> Calendar:
    return Calendar(rrule=rrule, since=since, timezone="Europe/Berlin", **more)


@pytest.mark.parametrize(
    ("rrule", "since", "expected"),
    [
        (
            "FREQ=HOURLY;INTERVAL=24",
            "2027-10-29T02:30",
            ["29 02:30+0200", "30 02:30+0200", "31 02:30+0200", "01 01:30+0100"],
        ),
        (
            "FREQ=HOURLY;INTERVAL=2",
            "2027-10-30T22:00",
            ["30 22:00+0200", "31 00:00+0200", "31 02:00+0200", "31 03:00+0100", "31 05:00+0100"],
        ),
        ("FREQ=HOURLY;INTERVAL=2", "2027-03-27T23:00", ["27 23:00+0100", "28 01:00+0100", "28 04:00+0200"]),
        (
            "FREQ=MINUTELY;INTERVAL=45",
            "2027-10-31T02:00",
            ["31 02:00+0200", "31 02:45+0200", "31 02:30+0100", "31 03:15+0100"],
        ),
        (
            "FREQ=HOURLY;BYMINUTE=15",
            "2027-10-31T02:00",
            ["31 02:15+0200", "31 02:15+0100", "31 03:15+0100"],
        ),
    ],
)
def test_hours_and_minutes_are_counted_as_they_pass(rrule: str, since: str, expected: list[str]) -> None:
    assert local(berlin(rrule, since), len(expected)) == expected


@pytest.mark.parametrize(
    ("rrule", "since", "expected"),
    [
        ("FREQ=DAILY", "2027-10-30T02:30", ["30 02:30+0200", "31 02:30+0200", "01 02:30+0100"]),
        ("FREQ=DAILY", "2027-03-27T02:30", ["27 02:30+0100", "28 03:30+0200", "29 02:30+0200"]),
        ("FREQ=HOURLY;BYHOUR=2", "2027-10-30T00:00", ["30 02:00+0200", "31 02:00+0200", "01 02:00+0100"]),
        ("FREQ=HOURLY;BYHOUR=2", "2027-03-27T00:00", ["27 02:00+0100", "28 03:00+0200", "29 02:00+0200"]),
        (
            "FREQ=HOURLY;INTERVAL=2;BYHOUR=0,2,4",
            "2027-10-31T00:00",
            ["31 00:00+0200", "31 02:00+0200", "31 04:00+0100", "01 00:00+0100"],
        ),
        (  # 02:00 would come at 03:00, an hour before the next
            "FREQ=HOURLY;INTERVAL=2;BYHOUR=0,2,4",
            "2027-03-28T00:00",
            ["28 00:00+0100", "28 04:00+0200", "29 00:00+0200", "29 02:00+0200"],
        ),
        (
            "FREQ=MINUTELY;INTERVAL=40;BYHOUR=1,2,3",
            "2027-03-28T01:20",
            ["28 01:20+0100", "28 03:20+0200", "29 01:20+0200"],
        ),
    ],
)
def test_days_and_rules_that_name_their_hours_go_by_the_wall_clock(rrule: str, since: str, expected: list[str]) -> None:
    assert local(berlin(rrule, since), len(expected)) == expected


@pytest.mark.parametrize("settings", [{"rrule": "FREQ=HOURLY;COUNT=4"}, {"rrule": "FREQ=HOURLY", "count": 4}])
def test_a_count_is_that_of_firings(settings: dict[str, Any]) -> None:
    calendar = Calendar(since="2027-10-31T01:00", timezone="Europe/Berlin", **settings)
    assert local(calendar) == ["31 01:00+0200", "31 02:00+0200", "31 02:00+0100", "31 03:00+0100"]
    merged = berlin("FREQ=DAILY;BYHOUR=2,3;COUNT=3", "2027-03-28T00:00")
    assert local(merged) == ["28 03:00+0200", "29 02:00+0200", "29 03:00+0200"]


def test_an_end_and_an_exception_in_the_hour_that_comes_twice_are_the_first_unless_they_say_which() -> None:
    hourly, since = "FREQ=HOURLY", "2027-10-31T01:00"
    assert local(berlin(hourly, since, until="2027-10-31T02:00")) == ["31 01:00+0200", "31 02:00+0200"]
    assert len(local(berlin(hourly, since, until="2027-10-31T02:00+01:00"))) == 3
    assert len(local(berlin("FREQ=HOURLY;UNTIL=20271031T010000Z", since))) == 3
    assert len(local(berlin(hourly, since, until="2027-10-31"), 99)) == 24
    both = berlin(hourly, since, until="2027-10-31T03:00", except_=("2027-10-31T02:00",))
    assert local(both) == ["31 01:00+0200", "31 02:00+0100", "31 03:00+0100"]
    both = berlin(hourly, since, until="2027-10-31T03:00", except_=("2027-10-31T02:00+01:00",))
    assert local(both) == ["31 01:00+0200", "31 02:00+0200", "31 03:00+0100"]


def test_a_begin_that_clocks_skip_or_show_twice() -> None:
    assert local(berlin("FREQ=DAILY", "2027-03-28T02:30"), 2) == ["28 03:30+0200", "29 02:30+0200"]
    assert local(berlin("FREQ=HOURLY", "2027-03-28T02:30"), 2) == ["28 03:30+0200", "28 04:30+0200"]
    assert local(berlin("FREQ=DAILY", "2027-10-31T02:30+01:00"), 2) == ["31 02:30+0100", "01 02:30+0100"]
    assert local(berlin("FREQ=HOURLY", "2027-10-31T02:30+01:00"), 2) == ["31 02:30+0100", "31 03:30+0100"]


def test_a_day_that_is_left_out_is_left_out_also_where_its_times_come_late() -> None:
    nuuk: dict[str, Any] = {"rrule": "FREQ=DAILY", "since": "2027-03-26T23:30", "timezone": "America/Nuuk"}
    assert local(Calendar(**nuuk), 3) == ["26 23:30-0200", "28 00:30-0100", "28 23:30-0100"]
    assert local(Calendar(**nuuk, except_=("2027-03-27",)), 2) == ["26 23:30-0200", "28 23:30-0100"]
    assert local(Calendar(**nuuk, except_=("2027-03-28",)), 2) == ["26 23:30-0200", "29 23:30-0100"]


def resolved(wall: datetime, zone: ZoneInfo) -> datetime:
    """As RFC 5545 §3.3.5 has it, which is what Python makes of the first of two times."""
    return wall.replace(tzinfo=zone).astimezone(UTC)


WALL_PARTS = st.sampled_from(
    ["BYHOUR=2", "BYHOUR=0,1,2,3,23", "BYMINUTE=0,30", "BYDAY=SU,MO,FR", "BYMONTHDAY=1,30,31", "BYHOUR=23;BYMINUTE=45"]
)
ENDS = st.sampled_from([("", None), ("COUNT", 1), ("COUNT", 5), ("COUNT", 17)])


@settings(deadline=None, max_examples=30)
@given(
    change=st.sampled_from(CHANGES),
    freq=st.sampled_from(["YEARLY", "MONTHLY", "WEEKLY", "DAILY"]),
    interval=st.integers(1, 3),
    parts=st.sets(WALL_PARTS, max_size=2),
    ahead=st.integers(0, 3 * 24 * 4),
    end=ENDS,
)
def test_days_are_those_of_dateutil_put_on_the_clock(
    change: tuple[str, date], freq: str, interval: int, parts: set[str], ahead: int, end: tuple[str, int | None]
) -> None:
    names = [part.partition("=")[0] for part in ";".join(parts).split(";") if part]
    assume(len(names) == len(set(names)) and not (freq == "WEEKLY" and "BYMONTHDAY" in names))
    name, day = change
    since = datetime.combine(day, time()) + timedelta(days=1) - timedelta(minutes=15 * ahead)
    text = ";".join((f"FREQ={freq}", f"INTERVAL={interval}", *sorted(parts)))
    zone = ZoneInfo(name)
    walls = rrulestr(text, dtstart=since).xafter(since, count=40, inc=True)
    expected = sorted({resolved(wall, zone) for wall in walls if wall.year < 2200})[:17]
    if end[1]:
        expected, text = expected[: end[1]], f"{text};COUNT={end[1]}"
    calendar = Calendar(rrule=text, since=since.isoformat(), timezone=name)
    assert due(calendar, len(expected) + bool(end[1] and end[1] == len(expected))) == expected


@settings(deadline=None, max_examples=60)
@given(
    change=st.sampled_from(CHANGES),
    freq=st.sampled_from(["HOURLY", "MINUTELY"]),
    interval=st.integers(1, 50),
    days=st.sampled_from(["", "BYDAY=SU,TU,FR,SA", "BYMONTHDAY=1,3,30,31"]),
    ahead=st.integers(0, 20 * 60),
    end=ENDS,
)
def test_hours_and_minutes_are_those_that_pass(
    change: tuple[str, date], freq: str, interval: int, days: str, ahead: int, end: tuple[str, int | None]
) -> None:
    name, day = change
    zone = ZoneInfo(name)
    begin = resolved(datetime.combine(day, time(20)), zone) - timedelta(minutes=ahead)
    step = timedelta(**{"hours" if freq == "HOURLY" else "minutes": interval})
    every = (begin + number * step for number in range(60_000))
    expected = list(islice((each for each in every if _is_on(each.astimezone(zone), days)), end[1] or 60))
    text = ";".join(filter(None, (f"FREQ={freq}", f"INTERVAL={interval}", days, f"COUNT={end[1]}" if end[1] else "")))
    calendar = Calendar(rrule=text, since=begin.isoformat(), timezone=name)
    assert due(calendar, len(expected) + bool(end[1])) == expected


def _is_on(wall: datetime, days: str) -> bool:
    name, _, reported = days.partition("=")
    if name == "BYDAY":
        return f"{wall:%a}"[:2].upper() in reported.split(",")
    return not name or str(wall.day) in reported.split(",")


@settings(deadline=None, max_examples=60)
@given(
    change=st.sampled_from(CHANGES),
    freq=st.sampled_from(["HOURLY", "MINUTELY", "SECONDLY"]),
    interval=st.sampled_from([1, 2, 3, 5, 7, 45, 90, 122]),
    part=st.sampled_from(["", "BYHOUR=1,2,3", "BYHOUR=2", "BYMINUTE=0", "BYMINUTE=30", "BYHOUR=0,23;BYMINUTE=15"]),
    ahead=st.integers(0, 24 * 60),
    jump=st.integers(0, 20),
)
def test_no_two_times_of_a_rule_are_closer_than_its_interval(
    change: tuple[str, date], freq: str, interval: int, part: str, ahead: int, jump: int
) -> None:
    name, day = change
    assume(freq == "HOURLY" or "BYMINUTE" not in part)
    assume(freq != "HOURLY" or "BYHOUR" not in part or interval < 10)  # it would never fire
    assume(name not in {"Australia/Lord_Howe", "America/Caracas"} or "BYMINUTE" not in part)  # half an hour
    begin = resolved(datetime.combine(day, time()), ZoneInfo(name)) - timedelta(minutes=ahead)
    text = ";".join(filter(None, (f"FREQ={freq}", f"INTERVAL={interval}", part)))
    calendar = Calendar(rrule=text, since=begin.isoformat(), timezone=name)
    unit = {"HOURLY": "hours", "MINUTELY": "minutes", "SECONDLY": "seconds"}[freq]
    if list(calendar.problems()):
        return
    found = due(calendar, 20, begin + timedelta(hours=jump))
    least = timedelta(**{unit: interval})
    for before, after in pairwise(found):
        offsets = (each.astimezone(calendar.zone()).utcoffset() or timedelta(0) for each in (after, before))
        by_clock = next(offsets) - next(offsets) if "BYHOUR" in part else timedelta(0)
        assert after - before >= least - max(by_clock, timedelta(0))


@pytest.mark.parametrize("rrule", ["FREQ=HOURLY;INTERVAL=2", "FREQ=HOURLY;BYHOUR=1,2,3", "FREQ=DAILY;BYHOUR=2,3"])
@pytest.mark.parametrize("day", ["2027-03-28", "2027-10-31"])
async def test_the_clock_fires_at_the_computed_times(rrule: str, day: str) -> None:
    begin = resolved(datetime.fromisoformat(f"{day}T00:00"), ZoneInfo("Europe/Berlin"))
    calendar = berlin(rrule, begin.isoformat())
    expected = [each for each in due(calendar, 99, begin) if each <= begin + timedelta(hours=20)]
    hands, broker = Hands(begin), Broker()
    settings: dict[str, Any] = {"rrule": rrule, "since": begin.isoformat(), "timezone": "Europe/Berlin"}
    async with running(hands, broker, trigger(provider="calendar", applied=begin, **settings)):
        for _ in range(20 * 2):
            await hands.move(minutes=30)
        await fired(broker, *(f"{each:%H:%M:%S}" for each in expected))
