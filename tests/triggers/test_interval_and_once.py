"""Intervals, and times that come once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.triggers.providers.interval import Interval
from muster.triggers.providers.once import Once

APPLIED = datetime(2030, 1, 31, 12, 0, 0, 250_000, tzinfo=UTC)


def test_an_interval_begins_when_it_was_applied() -> None:
    assert Interval(every="90s").following(APPLIED, APPLIED) == datetime(2030, 1, 31, 12, 1, 30, tzinfo=UTC)


def test_an_interval_keeps_to_its_grid_however_late_one_asks() -> None:
    interval = Interval(every="1h", since="2030-01-01T00:20:00+01:00")
    assert interval.following(APPLIED, APPLIED) == datetime(2030, 1, 31, 12, 20, tzinfo=UTC)


def test_an_interval_may_begin_later() -> None:
    later = APPLIED + timedelta(days=3)
    interval = Interval(every="1h", since=later.isoformat())
    assert interval.following(APPLIED, APPLIED) == later
    assert interval.following(later, APPLIED) == later + timedelta(hours=1)


def test_nothing_is_due_before_the_trigger_was_applied() -> None:
    before = APPLIED - timedelta(days=3)
    assert Interval(every="1h").following(before, APPLIED) == datetime(2030, 1, 31, 13, tzinfo=UTC)


MOMENTS = st.integers(0, 4 * 10**9).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))


@given(every=st.integers(1, 10**6), since=st.none() | MOMENTS, after=MOMENTS)
def test_intervals_are_even(every: int, since: datetime | None, after: datetime) -> None:
    interval = Interval(every=f"{every}s", since=since.isoformat() if since else None)
    first = interval.following(after, APPLIED)
    assert first is not None
    assert first > after
    assert interval.following(first, APPLIED) == first + timedelta(seconds=every)


@pytest.mark.parametrize(
    ("every", "since", "path", "message"),
    [
        ("often", None, "every", "is not a duration"),
        ("500ms", None, "every", "not between 1 s"),
        ("0s", None, "every", "not between 1 s"),
        ("99999999999999999d", None, "every", ""),
        ("5m", "2030-01-31", "since", "says no time zone"),
        ("5m", "noon", "since", "is not a time"),
        ("5m", "9999-12-31T23:59:59-12:00", "since", "beyond the years"),
    ],
)
def test_a_bad_interval_is_reported(every: str, since: str | None, path: str, message: str) -> None:
    (problem,) = Interval(every=every, since=since).problems()
    assert problem.path == path
    assert message in problem.message


def test_once_is_once() -> None:
    once = Once(at="2030-01-31T13:00:00+01:00")
    noon = datetime(2030, 1, 31, 12, tzinfo=UTC)
    assert once.following(noon - timedelta(seconds=1), APPLIED) == noon
    assert once.following(noon, APPLIED) is None


def test_a_time_that_has_passed_is_no_fault() -> None:
    assert not list(Once(at="2001-01-01T00:00:00Z").problems())


@pytest.mark.parametrize("at", ["tomorrow", "2030-02-30T00:00:00Z", "2030-01-31T12:00:00", ""])
def test_a_bad_time_is_reported(at: str) -> None:
    assert [problem.path for problem in Once(at=at).problems()] == ["at"]
