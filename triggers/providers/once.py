"""`provider: once`: at one time, and never again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from muster.blueprints.definition import moment
from muster.blueprints.provider import Schedule
from muster.mesh.errors import Problem


class Once(Schedule, kw_only=True):
    """Fires at `at`; a time that has already passed when the trigger is applied is not an error."""

    at: str
    """RFC 3339."""

    def problems(self) -> Iterator[Problem]:
        """What is no time."""
        yield from super().problems()
        try:
            moment(self.at)
        except ValueError as error:
            yield Problem(path="at", message=str(error))

    def following(self, after: datetime, start: datetime) -> datetime | None:  # noqa: ARG002 - it says its time itself
        """That time, if it is to come."""
        at = moment(self.at)
        return at if at > after else None
