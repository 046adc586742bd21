"""The times of a recurrence rule in a time zone, from its start on, across changes of clocks.

A rule of days or longer, and a rule that names its hours, follows the wall clock (`zones`).  A time that the clock
skips is left out if another time is less than the rule's interval away; that time replaces it.

A rule of hours, minutes or seconds that names no hours counts elapsed time: two of its times are never closer than its
interval.  Within an hour, BYMINUTE follows the wall clock; if clocks change by half an hour, as on Lord Howe Island,
two times can be closer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Generator, Iterator
from datetime import date, datetime, time, timedelta
from itertools import islice, takewhile
from typing import Final, NamedTuple

from muster.triggers.recurrence import DAY, Rule
from muster.triggers.zones import END, MOMENT, Span, Zone

LONGEST_SEASON: Final = timedelta(days=800)
"""A period that contains all kinds of changes of a zone's clocks."""


class Origin(NamedTuple):
    """The time from which a rule counts."""

    wall: datetime
    """The wall clock time."""
    moment: datetime
    """The same time in UTC, as a naive datetime."""
    is_due: bool
    """Whether the rule can be due at this time already, and not only later."""


class Occurrences:
    """A rule in a time zone.  All times are UTC, as naive datetimes."""

    def __init__(
        self, rule: Rule, origin: Origin, zone: Zone, *, until: datetime = END, count: int | None = None
    ) -> None:
        """Creates it; no time is after `until`, and there are at most `count` times."""
        self.rule = rule
        self._origin = origin
        self._first = origin.moment - MOMENT if origin.is_due else origin.moment
        self._zone = zone
        self._last = until
        if count is not None:
            self._last = nth(self.after(self._first), count) or self._last

    def after(self, moment: datetime, left_out: Collection[date] = ()) -> Iterator[datetime]:
        """Yields all times after a moment, except those on some days of the wall clock."""
        moment = max(moment, self._first)
        found = self._elapsed(moment, left_out) if self.rule.is_elapsed else self._by_clock(moment, left_out)
        return takewhile(lambda due: due <= self._last, found)

    def has(self, wall: datetime) -> bool:
        """Returns whether the rule follows the wall clock and has this time."""
        return not self.rule.is_elapsed and self.rule.has(self._origin.wall, wall)

    # -- by the wall clock ----------------------------------------------------------------------

    def _by_clock(self, moment: datetime, left_out: Collection[date]) -> Iterator[datetime]:
        before = datetime.min  # noqa: DTZ901
        late: deque[datetime] = deque()
        """Times that the clock skipped, which can be later than times that it shows."""
        for wall in _but(left_out, self.rule, self._origin.wall, self._wall_before(moment)):
            due = self._zone.at(wall)
            if due < self._origin.moment:  # the origin is the second of two equal wall clock times, and so is this
                due = self._zone.at(wall.replace(fold=1))
            if self._zone.wall(due) != wall:
                late.append(due)
                continue
            yield from (it for it in self._apart(late, before, due) if it > moment)
            if due > moment:
                yield due
            before = due
        yield from (it for it in self._apart(late, before, datetime.max) if it > moment)  # noqa: DTZ901

    def _apart(self, late: deque[datetime], before: datetime, due: datetime) -> Iterator[datetime]:
        """Yields the skipped times before `due`, unless a close time replaces them."""
        while late and late[0] <= due:
            it = late.popleft()
            if due != it and it - before >= self.rule.step and due - it >= self.rule.step:
                yield it

    def _wall_before(self, moment: datetime) -> datetime:
        """Returns the wall clock time, or an earlier one near a change of clocks, where times are not in order."""
        span = next(self._zone.spans(moment))
        if moment >= span.begin + abs(span.jump) + self.rule.step:
            return moment + span.offset
        return moment + min(span.offset, span.before) - self.rule.step

    # -- as time passes -------------------------------------------------------------------------

    def _elapsed(self, moment: datetime, left_out: Collection[date]) -> Iterator[datetime]:
        over: set[timedelta] = set()
        end = END
        for span in self._zone.spans(moment):
            if span.begin > end:
                return
            if span.offset not in over and (yield from self._span(span, moment, left_out)):
                over.add(span.offset)  # with another offset, there can be more
                end = span.begin + LONGEST_SEASON
            moment = max(moment, span.end - MOMENT)

    def _span(self, span: Span, moment: datetime, left_out: Collection[date]) -> Generator[datetime, None, bool]:
        """Yields the times within a span; returns whether its offset has no more times."""
        low = max(moment, span.begin - MOMENT)
        for wall in _but(left_out, self.rule, self._origin.moment + span.offset, low + span.offset):
            due = wall - span.offset
            if due >= span.end:
                return False
            yield due
        return True


def nth(times: Iterator[datetime], count: int) -> datetime | None:
    """Returns the nth of some times; None if there are fewer."""
    return next(islice(times, count - 1, None), None)


def _but(left_out: Collection[date], rule: Rule, start: datetime, after: datetime) -> Iterator[datetime]:
    """Yields the wall clock times of a rule, except those on some days."""
    while True:
        for wall in rule.times(start, after):
            if left_out and wall.date() in left_out:
                after = datetime.combine(wall, time()) + DAY - MOMENT
                break
            yield wall
        else:
            return
