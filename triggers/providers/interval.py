"""`provider: interval`: fires at a fixed interval."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from muster.blueprints.definition import duration, moment
from muster.blueprints.provider import Schedule, span_problems
from muster.mesh.errors import Problem

LEAST = timedelta(seconds=1)
MOST = timedelta(days=3660)


class Interval(Schedule, kw_only=True):
    """Fires at `since` and then once every `every`; time zones and changed clocks do not affect it."""

    every: str
    """A duration: `90s`."""
    since: str | None = None
    """The first time (RFC 3339), from which the others count; by default `every` after the trigger was applied."""

    def problems(self) -> Iterator[Problem]:
        """Yields an invalid or too short interval, and an invalid time."""
        yield from super().problems()
        yield from span_problems("every", self.every, least=LEAST, most=MOST)
        if self.since is not None:
            try:
                moment(self.since)
            except ValueError as error:
                yield Problem(path="since", message=str(error))

    def following(self, after: datetime, start: datetime) -> datetime | None:
        """Returns the next time; a start without `since` is in whole seconds."""
        every = duration(self.every)
        begin = start.replace(microsecond=0) + every if self.since is None else moment(self.since)
        try:
            return begin + max(0, (after - begin) // every + 1) * every
        except OverflowError:
            return None
