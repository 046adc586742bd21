"""Local time: what becomes of a time of day on the days on which clocks are changed.

A time that does not exist (02:30 when clocks jump from 02:00 to 03:00) comes as much later as they
jump, at 03:30 (RFC 5545 §3.3.5).  A time that exists twice comes the first time only, unless the
schedule goes through every hour: then it goes on through the hour that comes twice.  (Recurrence rules
have more to say of both: `occurrences`.)

Hosts differ in what they know of a zone, so a firing is known by the local time that it is for, not by
the time in UTC that its host made of that.
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
"""How far ahead is looked for a due time."""

END: Final = datetime(LAST_YEAR + 1, 1, 1)  # noqa: DTZ001 - a wall clock's time
MOMENT: Final = timedelta(microseconds=1)
SECOND: Final = timedelta(seconds=1)
LOOK: Final = timedelta(hours=12)
"""No zone has ever changed its clocks twice within this."""

Walls = Callable[[datetime], datetime | None]
"""The first due time by the wall clock (no zone in it) after another one."""


class Span(NamedTuple):
    """A time in which a zone's clocks run on evenly; `begin` and `end` are UTC, without saying so."""

    begin: datetime
    end: datetime
    offset: timedelta
    """What the wall clock is ahead of UTC."""
    before: timedelta
    """What it was ahead just before `begin`."""

    @property
    def jump(self) -> timedelta:
        """How far the clocks were put forward at its begin; negative: back."""
        return self.offset - self.before


ALWAYS: Final = Span(datetime(1, 1, 2), datetime(9999, 1, 1), timedelta(0), timedelta(0))  # noqa: DTZ001
"""Of UTC."""


class Zone:
    """A time zone of the IANA database."""

    def __init__(self, name: str, info: tzinfo) -> None:
        self.name = name
        self.info = info

    def following(self, walls: Walls, after: datetime, *, every_hour: bool = False) -> datetime | None:
        """The first time after `after` that is due by the wall clock; `every_hour` as this file's head says."""
        begin = after.astimezone(UTC).replace(tzinfo=None)
        if self.name == "UTC":
            wall = walls(begin)
            return None if wall is None else wall.replace(tzinfo=UTC)
        for span in self.spans(begin):
            found, is_over = _within(span, walls, begin, every_hour)
            if found is not None and found < span.end:
                return found.replace(tzinfo=UTC)
            if is_over:
                return None
        return None

    def spans(self, after: datetime) -> Iterator[Span]:
        """The spans that end after a time (UTC)."""
        if self.name == "UTC":
            yield ALWAYS
            return
        for year in range(after.year, LAST_YEAR + 1):
            yield from (span for span in _year(self.info, year) if span.end > after)

    def at(self, wall: datetime) -> datetime:
        """When (UTC) the wall clock shows a time: the first time, and as this file's head says if it never does."""
        return wall.replace(tzinfo=self.info).astimezone(UTC).replace(tzinfo=None)

    def wall(self, moment: datetime) -> datetime:
        """What the wall clock shows at a time (UTC)."""
        return moment.replace(tzinfo=UTC).astimezone(self.info).replace(tzinfo=None, fold=0)

    def key(self, due: datetime, is_named: Callable[[datetime], bool]) -> str:
        """The local time that something is due for, with the zone; the second of two alike with its offset too.

        That in UTC if no time of the wall clock that `is_named` in the schedule is meant.
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
    """The zone of this name.

    Raises:
        ValueError: there is none.
    """
    if name == "UTC":
        return Zone(name, UTC)
    try:
        return Zone(name, ZoneInfo(name))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        hint = did_you_mean(name, available_timezones()) or "write one like Europe/Berlin"
        raise ValueError(f"there is no time zone {name[:80]!r}: {hint}") from None


def _within(span: Span, walls: Walls, after: datetime, every_hour: bool) -> tuple[datetime | None, bool]:
    """The first due time of a span, or one beyond it; and whether there will be no more."""
    low = max(after, span.begin - MOMENT)
    # Clocks were put back: what they show until `-jump` has passed they have shown before.
    own = low if every_hour or span.jump >= timedelta(0) else max(low, span.begin - span.jump - MOMENT)
    wall = walls(own + span.offset)
    found = None if wall is None else wall - span.offset
    if low < span.begin + span.jump:  # what was jumped over comes by the clock as it went before
        missing = walls(low + span.before)
        if missing is not None and missing - span.before < span.begin + span.jump:
            late = missing - span.before
            found = late if found is None else min(found, late)
    return found, wall is None and found is None


@lru_cache(maxsize=4096)
def _year(info: tzinfo, year: int) -> tuple[Span, ...]:
    """The spans that end in a year (of UTC); the first may have begun with a change of the year before."""
    before, (first, *others) = _changes(info, year - 1)[-1], _changes(info, year)
    if before.offset != first.offset:  # a change at New Year, to the second
        return first._replace(before=before.offset), *others
    if before.jump:
        return first._replace(begin=before.begin, before=before.before), *others
    return first, *others


@lru_cache(maxsize=4096)
def _changes(info: tzinfo, year: int) -> tuple[Span, ...]:
    """The spans of a year alone."""
    begin, end = datetime(year, 1, 1), datetime(year + 1, 1, 1)  # noqa: DTZ001
    before = offset = _offset(info, begin)
    spans: list[Span] = []
    at = begin
    while at < end:
        later = min(at + LOOK, end - SECOND)
        if _offset(info, later) != offset:
            change = _change(info, at, later)
            spans.append(Span(begin, change, offset, before))
            begin, before, offset = change, offset, _offset(info, change)
            at = change
        else:
            at = later if later < end - SECOND else end
    return (*spans, Span(begin, end, offset, before))


def _change(info: tzinfo, low: datetime, high: datetime) -> datetime:
    """The second in which clocks are changed, which lies after `low` and not after `high`."""
    offset = _offset(info, low)
    while high - low > SECOND:
        middle = low + SECOND * ((high - low) // (2 * SECOND))
        low, high = (middle, high) if _offset(info, middle) == offset else (low, middle)
    return high


def _offset(info: tzinfo, moment: datetime) -> timedelta:
    return moment.replace(tzinfo=UTC).astimezone(info).utcoffset() or timedelta(0)
