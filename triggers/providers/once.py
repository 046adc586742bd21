"""`provider: once`: fires at one time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from muster.blueprints.definition import moment
from muster.blueprints.provider import Schedule
from muster.mesh.errors import Problem


class Once(Schedule, kw_only=True):
    """Fires at `at`; a time in the past is not an error."""

    at: str
    """The time (RFC 3339)."""

    def problems(self) -> Iterator[Problem]:
        """Yields an invalid time."""
        yield from super().problems()
        try:
            moment(self.at)
        except ValueError as error:
            yield Problem(path="at", message=str(error))

    def following(self, after: datetime, start: datetime) -> datetime | None:  # noqa: ARG002 - its time is fixed
        """Returns the time, if it is after `after`."""
        at = moment(self.at)
        return at if at > after else None
