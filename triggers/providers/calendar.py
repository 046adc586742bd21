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
from muster.triggers.occurrences import Occurrences, Origin, nth
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
    """`FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=17`, or a list; parts that a rule leaves out (day, hour …) come from `since`."""
    dates: Dates = ()
    """Additional times, written like `since`."""
    since: str | None = None
    """The start of the rules: a date, a local time, or RFC 3339; by default when the trigger was applied."""
    until: str | None = None
    """No time after this fires; written like `since`, and a date includes its whole day."""
    count: Annotated[int, msgspec.Meta(ge=1, le=recurrence_text.MOST_COUNT)] | None = None
    """At most this many times from the start on, including times in `except`."""
    timezone: str = "UTC"
    except_: Dates = ()
    """Dates and times that do not fire."""

    def problems(self) -> Iterator[Problem]:
        """Yields invalid rules and times, an unknown time zone, and a schedule that never fires."""
        yield from super().problems()
        found = list(self._problems())
        yield from found
        if not found and Times(self, datetime.now(UTC)).is_empty:
            hint = "check until and except" if self.until or self.except_ else "check its days and its end"
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
            yield Problem(path="rrule", message="missing", hint="set rrule, dates or both")
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
        for name, given, more in (("until", self.until, read.until), ("count", self.count, read.count)):
            if given is not None and more is not None and len(self.rules) == 1:
                yield Problem(path=name, message=f"the rule has {name.upper()} too; set it once")

    @property
    def rules(self) -> tuple[str, ...]:
        """Returns its rules as a tuple."""
        return (self.rrule,) if isinstance(self.rrule, str) else self.rrule

    def zone(self) -> tzinfo:
        """Returns the time zone of the rules."""
        return zones.find(self.timezone).info

    def following(self, after: datetime, start: datetime) -> datetime | None:
        """Returns the first time after `after`."""
        return self._times(start).following(after)

    def key(self, due: datetime, start: datetime) -> str:
        """Returns the local time as the key, or the UTC time if the rule counts elapsed time."""
        return self._times(start).key(due)

    def _times(self, start: datetime) -> Times:
        return times(self, start.replace(microsecond=0) if self.since is None else None)


class Point(msgspec.Struct, frozen=True):
    """A time in the manifest, or a whole day."""

    wall: datetime
    """The wall clock time; for a day, its start."""
    moment: datetime
    """The same time in UTC, as a naive datetime."""
    is_day: bool


class Times:
    """Rules with their start, their end and their exceptions."""

    def __init__(self, settings: Calendar, applied: datetime | None) -> None:
        self._zone = zone = zones.find(settings.timezone)
        self._origin = _origin(settings, applied, zone)
        self._until = _end(settings.until, zone)
        dates = [_point(text, zone) for text in settings.dates]
        self._dates = sorted({point.moment for point in dates})
        self._walls = frozenset(point.wall for point in dates)
        self._rules = [_at_work(text, self._origin, zone) for text in settings.rules]
        excepted = [_point(text, zone) for text in settings.except_]
        self._days = frozenset(point.wall.date() for point in excepted if point.is_day)
        self._left_out = frozenset(point.moment for point in excepted if not point.is_day)
        if settings.count is not None:
            every = self._every(self._origin.moment - MOMENT, frozenset())
            self._until = nth(every, settings.count) or self._until
        self._from: datetime | None = None
        self._to: datetime | None = None

    def following(self, after: datetime) -> datetime | None:
        """Returns the first time after `after`, with a cache of the last result."""
        if self._from is not None and self._from <= after and (self._to is None or after < self._to):
            return self._to
        found = self._next(after.astimezone(UTC).replace(tzinfo=None))
        self._from, self._to = after, None if found is None else found.replace(tzinfo=UTC)
        return self._to

    def key(self, due: datetime) -> str:
        """Returns the key of a due time, which does not depend on the time zone data of the host."""
        return self._zone.key(due, self._is_named)

    def _is_named(self, wall: datetime) -> bool:
        return wall in self._walls or any(rule.has(wall) for rule in self._rules)

    @property
    def is_empty(self) -> bool:
        """Returns whether it has no time at all, past or future."""
        return self._next(min([self._origin.moment, *self._dates]) - MOMENT) is None

    def _next(self, after: datetime) -> datetime | None:
        return next((due for due in self._every(after, self._days) if not self._is_left_out(due)), None)

    def _is_left_out(self, due: datetime) -> bool:
        if due in self._left_out:
            return True
        return bool(self._days) and due.replace(tzinfo=UTC).astimezone(self._zone.info).date() in self._days

    def _every(self, after: datetime, left_out: frozenset[date]) -> Iterator[datetime]:
        """Yields the times after a moment; days in `left_out` apply only to the rules."""
        found: Iterable[datetime] = merge(
            (moment for moment in self._dates if moment > after),
            *(rule.after(after, left_out) for rule in self._rules),
        )
        return takewhile(lambda due: due <= self._until, (due for due, _ in groupby(found)))


@lru_cache(maxsize=4096)
def times(settings: Calendar, applied: datetime | None) -> Times:
    """Returns the cached rules of a trigger; `applied` is None if it does not matter."""
    return Times(settings, applied)


def _origin(settings: Calendar, applied: datetime | None, zone: Zone) -> Origin:
    if settings.since is None:
        now = (applied or datetime.now(UTC)).astimezone(UTC).replace(microsecond=0)
        return Origin(now.astimezone(zone.info).replace(tzinfo=None), now.replace(tzinfo=None), is_due=False)
    point = _point(settings.since, zone)
    return Origin(point.wall, point.moment, is_due=True)


def _at_work(text: str, origin: Origin, zone: Zone) -> Occurrences:
    read = recurrence_text.read(text)
    if isinstance(read, list):
        raise InvalidError(f"{text!r} is not a recurrence rule", *read)
    return Occurrences(read.rule, origin, zone, until=_end(read.until, zone), count=read.count)


def _end(text: str | None, zone: Zone) -> datetime:
    if text is None:
        return zones.END
    point = _point(text, zone)
    if point.wall >= zones.END:
        return zones.END
    return zone.at(point.wall + DAY) - MOMENT if point.is_day else point.moment


def _point(text: str, zone: Zone) -> Point:
    """Parses a text as a time in the zone.

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
        raise ValueError(f"{text!r} is not a date or time; {hint}") from None
    if wall.year < FIRST_YEAR:
        raise ValueError(f"{text!r} is before {FIRST_YEAR}")
    return Point(wall, moment, is_day)
