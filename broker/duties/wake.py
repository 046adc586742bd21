"""Orders whose time has come."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from muster.broker.duties.duty import Duty
from muster.broker.state.world import World
from muster.mesh.records import Due


class Wake(Duty):
    """Wakes orders that wait for a time (`not_before`, the `until` of a suspended task) when it has come."""

    every = 0.25

    def run_once(self, state: World, now: datetime) -> Iterator[Due]:
        """A Due for each order whose time has passed."""
        for order, time in state.timers.items():
            if time <= now:
                yield Due(order=order)
