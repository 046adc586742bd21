"""When a recurrence rule is due, in a time zone: its times from a begin on, where clocks are changed too.

A rule of days and longer, and one that names its hours, goes by the wall clock (`zones`).  A time that clocks
skip is left out if another one is less than the rule's interval away: that one stands for it.

A rule of hours, minutes or seconds that names no hours counts them as they pass: whatever the clocks show, no
two of its times are closer than its interval.  (Within an hour, BYMINUTE is what the clock shows: where clocks
are changed by half an hour, as on Lord Howe Island, so may be two of its times.)
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
"""In which a zone's clocks show all that they will show for a while."""


class Begin(NamedTuple):
    """Where a rule begins to count."""

    wall: datetime
    """What the wall clock shows then."""
    moment: datetime
    """The same in UTC, without saying so."""
    is_due: bool
    """Whether something may be due then already, and not only afterwards."""


class Occurrences:
    """A rule at work.  All times are UTC, without saying so."""

    def __init__(
        self, rule: Rule, begin: Begin, zone: Zone, *, until: datetime = END, count: int | None = None
    ) -> None:
        """Set it up; nothing is due after `until`, and there are at most `count` times."""
        self.rule = rule
        self._begin = begin
        self._first = begin.moment - MOMENT if begin.is_due else begin.moment
        self._zone = zone
        self._last = until
        if count is not None:
            self._last = nth(self.after(self._first), count) or self._last

    def after(self, moment: datetime, left_out: Collection[date] = ()) -> Iterator[datetime]:
        """All times after a moment, but for those of some days by the wall clock."""
        moment = max(moment, self._first)
        found = self._elapsed(moment, left_out) if self.rule.is_elapsed else self._by_clock(moment, left_out)
        return takewhile(lambda due: due <= self._last, found)

    def has(self, wall: datetime) -> bool:
        """Whether the rule goes by the wall clock, and a time on it is one of its times."""
        return not self.rule.is_elapsed and self.rule.has(self._begin.wall, wall)

    # -- by the wall clock ----------------------------------------------------------------------

    def _by_clock(self, moment: datetime, left_out: Collection[date]) -> Iterator[datetime]:
        before = datetime.min  # noqa: DTZ901
        late: deque[datetime] = deque()
        """Times that the clocks skipped; those which they do show come in between."""
        for wall in _but(left_out, self.rule, self._begin.wall, self._wall_before(moment)):
            due = self._zone.at(wall)
            if due < self._begin.moment:  # the begin is the second of two times that look alike, and so is this
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
        """What comes late before `due`, unless that, or what was due before, stands for it."""
        while late and late[0] <= due:
            it = late.popleft()
            if due != it and it - before >= self.rule.step and due - it >= self.rule.step:
                yield it

    def _wall_before(self, moment: datetime) -> datetime:
        """What the clock shows, or some time before if it was changed just then: then times do not come in order."""
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
                over.add(span.offset)  # with other clocks, there may be more
                end = span.begin + LONGEST_SEASON
            moment = max(moment, span.end - MOMENT)

    def _span(self, span: Span, moment: datetime, left_out: Collection[date]) -> Generator[datetime, None, bool]:
        """The times within a span; whether there are no more with its offset."""
        low = max(moment, span.begin - MOMENT)
        for wall in _but(left_out, self.rule, self._begin.moment + span.offset, low + span.offset):
            due = wall - span.offset
            if due >= span.end:
                return False
            yield due
        return True


def nth(times: Iterator[datetime], count: int) -> datetime | None:
    """The `count`th of some times; None if there are fewer."""
    return next(islice(times, count - 1, None), None)


def _but(left_out: Collection[date], rule: Rule, start: datetime, after: datetime) -> Iterator[datetime]:
    """A rule's times by the wall clock, without those of some days."""
    while True:
        for wall in rule.times(start, after):
            if left_out and wall.date() in left_out:
                after = datetime.combine(wall, time()) + DAY - MOMENT
                break
            yield wall
        else:
            return
