"""Which missed times are made good: the latest ones, however many there were."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muster.blueprints.provider import Schedule
from muster.triggers.missed import latest, to_fire
from muster.triggers.providers.calendar import Calendar
from muster.triggers.providers.cron import Cron
from muster.triggers.providers.interval import Interval

UNTIL = datetime(2030, 1, 31, 12, tzinfo=UTC)


def every(schedule: Schedule, after: datetime) -> list[datetime]:
    found: list[datetime] = []
    while (due := schedule.following(found[-1] if found else after, after)) is not None and due <= UNTIL:
        found.append(due)
    return found


@settings(deadline=None, max_examples=50)
@given(
    line=st.sampled_from(["* * * * *", "0 * * * *", "0 0 1 1 *", "0-5 3 * * sun", "*/10 * 30 1 *", "* 0 1 * *"]),
    hours=st.integers(0, 500),
    count=st.integers(1, 50),
)
def test_they_are_the_last_of_all(line: str, hours: int, count: int) -> None:
    after = UNTIL - timedelta(hours=hours)
    schedule = Cron(cron=line)
    assert latest(schedule, after, after, UNTIL, count) == every(schedule, after)[-count:]


def test_a_year_of_seconds_is_not_counted_through() -> None:
    asked = 0

    class Counting(Interval):
        def following(self, after: datetime, start: datetime) -> datetime | None:
            nonlocal asked
            asked += 1
            return super().following(after, start)

    found = latest(Counting(every="1s"), UNTIL - timedelta(days=365), UNTIL - timedelta(days=365), UNTIL, 3)
    assert found == [UNTIL - timedelta(seconds=back) for back in (2, 1, 0)]
    assert asked < 20


def test_a_burst_long_ago_is_found() -> None:
    """A second's ticks on one day of the year, and none since."""
    rule = Calendar(rrule="FREQ=SECONDLY;BYMONTH=3;BYMONTHDAY=1", since="2029-01-01")
    after = UNTIL - timedelta(days=400)
    assert latest(rule, after, after, UNTIL, 2) == [
        datetime(2029, 3, 1, 23, 59, 58, tzinfo=UTC),
        datetime(2029, 3, 1, 23, 59, 59, tzinfo=UTC),
    ]


@pytest.mark.parametrize(("missed", "expected"), [("skip", 0), ("once", 1), ("all", 7)])
def test_the_policy_says_how_many(missed: str, expected: int) -> None:
    schedule = Interval(every="1m", missed=missed, missed_limit=7)  # type: ignore[arg-type]
    after = UNTIL - timedelta(hours=1)
    assert len(to_fire(schedule, after, after, UNTIL)) == expected


def test_the_limit_bounds_what_is_asked_for() -> None:
    schedule = Cron(cron="* * * * *", missed="all", missed_limit=10_000)
    after = UNTIL - timedelta(days=365)
    found = to_fire(schedule, after, after, UNTIL)
    assert (len(found), found[-1]) == (10_000, UNTIL)


def test_times_that_are_far_apart_do_not_lead_beyond_the_calendar() -> None:
    schedule = Cron(cron="0 0 1 */3 *", missed="all", missed_limit=10_000)
    after = datetime(2029, 5, 1, tzinfo=UTC)
    assert [found.month for found in to_fire(schedule, after, after, UNTIL)] == [7, 10, 1]
