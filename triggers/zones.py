"""Local time, including the days on which clocks change.

A local time that does not exist (02:30 when clocks jump from 02:00 to 03:00) fires later by the length of the jump, at
03:30 (RFC 5545 §3.3.5).  A local time that occurs twice fires only the first time, unless the schedule fires in every
hour; then it also fires in the repeated hour.  Recurrence rules have further rules: see `occurrences`.

Hosts can have different data of a zone.  Therefore the local time identifies a firing, and not the UTC time that a host
computes from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from muster.blueprints.suggest import did_you_mean
from muster.mesh.moment import rfc3339

LAST_YEAR: Final = 2199
"""The last year in which due times are searched."""

END: Final = datetime(LAST_YEAR + 1, 1, 1)  # noqa: DTZ001 - a wall clock's time
MOMENT: Final = timedelta(microseconds=1)
SECOND: Final = timedelta(seconds=1)
STEP: Final = timedelta(hours=12)
"""No zone has ever changed its clocks twice within this time."""

Walls = Callable[[datetime], datetime | None]
"""Returns the first due wall clock time (a naive datetime) after another one."""


class Span(NamedTuple):
    """A period without a change of clocks; `begin` and `end` are UTC, as naive datetimes."""

    begin: datetime
    end: datetime
    offset: timedelta
    """The offset from UTC."""
    before: timedelta
    """The offset just before `begin`."""

    @property
    def jump(self) -> timedelta:
        """Returns how far the clocks were set forward at its start; negative if they were set back."""
        return self.offset - self.before


ALWAYS: Final = Span(datetime(1, 1, 2), datetime(9999, 1, 1), timedelta(0), timedelta(0))  # noqa: DTZ001
"""The span of UTC."""


class Zone:
    """A time zone of the IANA database."""

    def __init__(self, name: str, info: tzinfo) -> None:
        self.name = name
        self.info = info

    def following(self, walls: Walls, after: datetime, *, every_hour: bool = False) -> datetime | None:
        """Returns the first time after `after` that is due by the wall clock; see the module for `every_hour`."""
        begin = after.astimezone(UTC).replace(tzinfo=None)
        if self.name == "UTC":
            wall = walls(begin)
            return None if wall is None else wall.replace(tzinfo=UTC)
        for span in self.spans(begin):
            found, has_ended = _within(span, walls, begin, every_hour)
            if found is not None and found < span.end:
                return found.replace(tzinfo=UTC)
            if has_ended:
                return None
        return None

    def spans(self, after: datetime) -> Iterator[Span]:
        """Yields the spans that end after a time (UTC)."""
        if self.name == "UTC":
            yield ALWAYS
            return
        for year in range(after.year, LAST_YEAR + 1):
            yield from (span for span in _year(self.info, year) if span.end > after)

    def at(self, wall: datetime) -> datetime:
        """Returns when (UTC) the wall clock first shows a time; see the module for times that do not exist."""
        return wall.replace(tzinfo=self.info).astimezone(UTC).replace(tzinfo=None)

    def wall(self, moment: datetime) -> datetime:
        """Returns the wall clock time at a time (UTC)."""
        return moment.replace(tzinfo=UTC).astimezone(self.info).replace(tzinfo=None, fold=0)

    def key(self, due: datetime, is_named: Callable[[datetime], bool]) -> str:
        """Returns the local time of a due time, with the zone; the second of two equal times also has its offset.

        Returns the UTC time if the schedule does not name the local time (`is_named`).
        """
        if self.name == "UTC":
            return rfc3339(due)
        local = due.astimezone(self.info)
        wall = local.replace(tzinfo=None, fold=0)
        if is_named(wall):
            return f"{(local if local.fold else wall).isoformat()}[{self.name}]"
        moment = due.astimezone(UTC).replace(tzinfo=None)
        span = next(self.spans(moment))
        skipped = moment + span.before
        if moment < span.begin + span.jump and is_named(skipped):
            return f"{skipped.isoformat()}[{self.name}]"
        return rfc3339(due)


@lru_cache(maxsize=1024)
def find(name: str) -> Zone:
    """Returns the zone of a name.

    Raises:
        ValueError: the zone is unknown.
    """
    if name == "UTC":
        return Zone(name, UTC)
    try:
        return Zone(name, ZoneInfo(name))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        hint = did_you_mean(name, available_timezones()) or "write one like Europe/Berlin"
        raise ValueError(f"there is no time zone {name[:80]!r}: {hint}") from None


def _within(span: Span, walls: Walls, after: datetime, every_hour: bool) -> tuple[datetime | None, bool]:
    """Returns the first due time of a span, or one after it, and whether the search has ended."""
    low = max(after, span.begin - MOMENT)
    # Clocks were set back: until `-jump` has passed, they show times for the second time.
    own = low if every_hour or span.jump >= timedelta(0) else max(low, span.begin - span.jump - MOMENT)
    wall = walls(own + span.offset)
    found = None if wall is None else wall - span.offset
    if low < span.begin + span.jump:  # skipped times fire according to the previous offset
        missing = walls(low + span.before)
        if missing is not None and missing - span.before < span.begin + span.jump:
            late = missing - span.before
            found = late if found is None else min(found, late)
    return found, wall is None and found is None


@lru_cache(maxsize=4096)
def _year(info: tzinfo, year: int) -> tuple[Span, ...]:
    """Returns the spans that end in a UTC year; the first can start in the previous year."""
    before, (first, *others) = _changes(info, year - 1)[-1], _changes(info, year)
    if before.offset != first.offset:  # a change exactly at New Year
        return first._replace(before=before.offset), *others
    if before.jump:
        return first._replace(begin=before.begin, before=before.before), *others
    return first, *others


@lru_cache(maxsize=4096)
def _changes(info: tzinfo, year: int) -> tuple[Span, ...]:
    """Returns the spans within a year."""
    begin, end = datetime(year, 1, 1), datetime(year + 1, 1, 1)  # noqa: DTZ001
    before = offset = _offset(info, begin)
    spans: list[Span] = []
    at = begin
    while at < end:
        later = min(at + STEP, end - SECOND)
        if _offset(info, later) != offset:
            change = _change(info, at, later)
            spans.append(Span(begin, change, offset, before))
            begin, before, offset = change, offset, _offset(info, change)
            at = change
        else:
            at = later if later < end - SECOND else end
    return (*spans, Span(begin, end, offset, before))


def _change(info: tzinfo, low: datetime, high: datetime) -> datetime:
    """Returns the second of a change of clocks, which is after `low` and not after `high`."""
    offset = _offset(info, low)
    while high - low > SECOND:
        middle = low + SECOND * ((high - low) // (2 * SECOND))
        low, high = (middle, high) if _offset(info, middle) == offset else (low, middle)
    return high


def _offset(info: tzinfo, moment: datetime) -> timedelta:
    return moment.replace(tzinfo=UTC).astimezone(info).utcoffset() or timedelta(0)
