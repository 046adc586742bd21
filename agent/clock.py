"""The time of the mesh, as its broker has it.

An agent's own clock may be off by any amount, and a host's clock may be set at any moment.  What orders wait for is
compared by the broker, so it must be reckoned in the broker's time: each answer to a join says what that is, and
from then on the agent goes by a clock that nobody sets.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from muster.agent.lease import now as elapsed


class Clock:
    """The time of the mesh; until a broker has answered, the host's."""

    __slots__ = ("_offset", "_wall")

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._offset: float | None = None

    def wall(self) -> float:
        """Returns the host's time in seconds since 1970, which a broker compares with its own."""
        return self._wall()

    def set(self, answered: float, asked_at: float) -> None:
        """Sets the time of a broker, requested at `asked_at` (`elapsed`) and received now; it is of the middle."""
        self._offset = answered - (asked_at + elapsed()) / 2

    def now(self) -> datetime:
        """Returns the time in UTC."""
        seconds = self._wall() if self._offset is None else elapsed() + self._offset
        return datetime.fromtimestamp(seconds, UTC)
