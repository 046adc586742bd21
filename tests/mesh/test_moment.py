"""Times as text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from muster.mesh.moment import rfc3339


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_time_is_written_as_isoformat_has_it(time: datetime) -> None:
    assert rfc3339(time) == time.isoformat().replace("+00:00", "Z")


def test_a_time_elsewhere_is_written_in_utc() -> None:
    noon = datetime(2026, 5, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    assert rfc3339(noon) == "2026-05-01T10:00:00Z"
