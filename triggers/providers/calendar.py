"""`provider: calendar`: recurrence rules of RFC 5545, in a time zone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, tzinfo
from functools import lru_cache
from heapq import merge
from itertools import groupby, takewhile
from typing import Annotated, Final

import msgspec
from msgspec.structs import replace

from muster.blueprints.provider import Schedule
from muster.mesh.errors import InvalidError, Problem
from muster.triggers import recurrence_text, zones
from muster.triggers.occurrences import Begin, Occurrences, nth
from muster.triggers.recurrence import DAY
from muster.triggers.zones import MOMENT, Zone

MOST_RULES: Final = 50
MOST_DATES: Final = 1000
LONGEST: Final = 1000
"""Characters of a rule."""

FIRST_YEAR: Final = 1900

Dates = Annotated[tuple[str, ...], msgspec.Meta(max_length=MOST_DATES)]


class Calendar(Schedule, kw_only=True):
    """Fires at the times of its rules from `since` on, and at its own dates, except those in `except`."""

    rrule: str | Annotated[tuple[str, ...], msgspec.Meta(max_length=MOST_RULES)] = ()
    """`FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=17`, or a list; what a rule does not say (day, hour …) is that of `since`."""
    dates: Dates = ()
    """Further times, written like `since`."""
    since: str | None = None
    """The rules' begin: a date, a local time, or RFC 3339; without it, they count from the time of applying."""
    until: str | None = None
    """Nothing after this, written like `since`; a date includes its day."""
    count: Annotated[int, msgspec.Meta(ge=1, le=recurrence_text.MOST_COUNT)] | None = None
    """No more than so many times from the begin on; excepted ones count."""
    timezone: str = "UTC"
    except_: Dates = ()
    """Dates, on which nothing is due, and times that are left out."""

    def problems(self) -> Iterator[Problem]:
        """A rule that cannot be read, times that are none, a zone that does not exist, and a rule that never comes."""
        yield from super().problems()
        found = list(self._problems())
        yield from found
        if not found and Times(self, datetime.now(UTC)).is_empty:
            hint = "look at until and except" if self.until or self.except_ else "look at its days and its end"
            path = "rrule" if self.rrule else "dates"
            yield Problem(path=path, message="it never fires", line=1, column=1, hint=hint)

    def _problems(self) -> Iterator[Problem]:
        try:
            zone = zones.find(self.timezone)
        except ValueError as error:
            yield Problem(path="timezone", message=str(error))
            return
        places = [("since", self.since), ("until", self.until)]
        places += [(f"dates[{place}]", text) for place, text in enumerate(self.dates)]
        places += [(f"except[{place}]", text) for place, text in enumerate(self.except_)]
        for path, text in places:
            try:
                _point(text or "2000-01-01", zone)
            except ValueError as error:
                yield Problem(path=path, message=str(error))
        if not self.rules and not self.dates:
            yield Problem(path="rrule", message="missing", hint="say rrule, dates or both")
        for place, text in enumerate(self.rules):
            path = "rrule" if isinstance(self.rrule, str) else f"rrule[{place}]"
            yield from self._rule_problems(text, path, zone)

    def _rule_problems(self, text: str, path: str, zone: Zone) -> Iterator[Problem]:
        if len(text) > LONGEST:
            yield Problem(path=path, message=f"longer than {LONGEST} characters")
            return
        read = recurrence_text.read(text)
        if isinstance(read, list):
            yield from (replace(problem, path=path) for problem in read)
            return
        try:
            _end(read.until, zone)
        except ValueError as error:
            yield Problem(path=path, message=f"UNTIL: {error}")
        for name, told, more in (("until", self.until, read.until), ("count", self.count, read.count)):
            if told is not None and more is not None and len(self.rules) == 1:
                yield Problem(path=name, message=f"the rule says {name.upper()} too; say it once")

    @property
    def rules(self) -> tuple[str, ...]:
        """Its rules, however many are written."""
        return (self.rrule,) if isinstance(self.rrule, str) else self.rrule

    def zone(self) -> tzinfo:
        """The rules'."""
        return zones.find(self.timezone).info

    def following(self, after: datetime, start: datetime) -> datetime | None:
        """The first time after `after`."""
        return self._times(start).following(after)

    def key(self, due: datetime, start: datetime) -> str:
        """The local time, or that in UTC where it counts hours or minutes as they pass."""
        return self._times(start).key(due)

    def _times(self, start: datetime) -> Times:
        return times(self, start.replace(microsecond=0) if self.since is None else None)


class Point(msgspec.Struct, frozen=True):
    """A time that was written, or a whole day."""

    wall: datetime
    """What the wall clock shows; of a day, when it begins."""
    moment: datetime
    """The same in UTC, without saying so."""
    is_day: bool


class Times:
    """Rules with their begin and end, and what is left out."""

    def __init__(self, settings: Calendar, applied: datetime | None) -> None:
        self._zone = zone = zones.find(settings.timezone)
        self._begin = _begin(settings, applied, zone)
        self._until = _end(settings.until, zone)
        dates = [_point(text, zone) for text in settings.dates]
        self._dates = sorted({point.moment for point in dates})
        self._walls = frozenset(point.wall for point in dates)
        self._rules = [_at_work(text, self._begin, zone) for text in settings.rules]
        excepted = [_point(text, zone) for text in settings.except_]
        self._days = frozenset(point.wall.date() for point in excepted if point.is_day)
        self._left_out = frozenset(point.moment for point in excepted if not point.is_day)
        if settings.count is not None:
            every = self._every(self._begin.moment - MOMENT, frozenset())
            self._until = nth(every, settings.count) or self._until
        self._from: datetime | None = None
        self._to: datetime | None = None

    def following(self, after: datetime) -> datetime | None:
        """The first time after `after`; what was found last is remembered."""
        if self._from is not None and self._from <= after and (self._to is None or after < self._to):
            return self._to
        found = self._next(after.astimezone(UTC).replace(tzinfo=None))
        self._from, self._to = after, None if found is None else found.replace(tzinfo=UTC)
        return self._to

    def key(self, due: datetime) -> str:
        """What tells a due time from others, whatever a host knows of the zone."""
        return self._zone.key(due, self._is_named)

    def _is_named(self, wall: datetime) -> bool:
        return wall in self._walls or any(rule.has(wall) for rule in self._rules)

    @property
    def is_empty(self) -> bool:
        """Whether it has no time at all, be it past or to come."""
        return self._next(min([self._begin.moment, *self._dates]) - MOMENT) is None

    def _next(self, after: datetime) -> datetime | None:
        return next((due for due in self._every(after, self._days) if not self._is_left_out(due)), None)

    def _is_left_out(self, due: datetime) -> bool:
        if due in self._left_out:
            return True
        return bool(self._days) and due.replace(tzinfo=UTC).astimezone(self._zone.info).date() in self._days

    def _every(self, after: datetime, left_out: frozenset[date]) -> Iterator[datetime]:
        """The times after a moment; only the rules heed the days that are left out."""
        found: Iterable[datetime] = merge(
            (moment for moment in self._dates if moment > after),
            *(rule.after(after, left_out) for rule in self._rules),
        )
        return takewhile(lambda due: due <= self._until, (due for due, _ in groupby(found)))


@lru_cache(maxsize=4096)
def times(settings: Calendar, applied: datetime | None) -> Times:
    """Rules that were applied at some time (None: that does not matter), read once."""
    return Times(settings, applied)


def _begin(settings: Calendar, applied: datetime | None, zone: Zone) -> Begin:
    if settings.since is None:
        now = (applied or datetime.now(UTC)).astimezone(UTC).replace(microsecond=0)
        return Begin(now.astimezone(zone.info).replace(tzinfo=None), now.replace(tzinfo=None), is_due=False)
    point = _point(settings.since, zone)
    return Begin(point.wall, point.moment, is_due=True)


def _at_work(text: str, begin: Begin, zone: Zone) -> Occurrences:
    read = recurrence_text.read(text)
    if isinstance(read, list):
        raise InvalidError(f"{text!r} is no recurrence rule", *read)
    return Occurrences(read.rule, begin, zone, until=_end(read.until, zone), count=read.count)


def _end(text: str | None, zone: Zone) -> datetime:
    if text is None:
        return zones.END
    point = _point(text, zone)
    if point.wall >= zones.END:
        return zones.END
    return zone.at(point.wall + DAY) - MOMENT if point.is_day else point.moment


def _point(text: str, zone: Zone) -> Point:
    """A text as a time of the zone.

    Raises:
        ValueError: the text is neither a date nor a time.
    """
    text = text.strip()
    try:
        is_day = len(text) <= len("2030-01-31")
        found = datetime.combine(date.fromisoformat(text), time()) if is_day else datetime.fromisoformat(text)
        if found.tzinfo is None:
            wall, moment = found.replace(fold=0), zone.at(found)
        else:
            wall = found.astimezone(zone.info).replace(tzinfo=None, fold=0)
            moment = found.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        hint = "write 2030-01-31, 2030-01-31T12:00 or 2030-01-31T12:00:00Z"
        raise ValueError(f"{text!r} is no date or time; {hint}") from None
    if wall.year < FIRST_YEAR:
        raise ValueError(f"{text!r} is before {FIRST_YEAR}")
    return Point(wall, moment, is_day)
