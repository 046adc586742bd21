"""Settles firings whose burst has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import islice
from typing import Final

from muster.broker.duties.duty import Duty
from muster.broker.state.trigger_status import Pending, trigger_of
from muster.broker.state.world import World
from muster.mesh.records import Fired

AT_ONCE: Final = 100
"""Firings that are settled at a stretch; the others follow at the next look."""


class Settle(Duty):
    """Has pending firings make their orders once their lane was quiet for as long as their trigger's `debounce` says.

    What is pending is in the state, so any leader finds it.  Two leaders may both write the record: the second one
    finds nothing pending, and is refused.
    """

    every = 0.25

    def __init__(self, settled: Callable[[str, Pending], Fired]) -> None:
        self._settled = settled

    def run_once(self, state: World, now: datetime) -> Iterator[Fired]:
        """The second record of each firing whose time has come."""
        trigger_statuses = state.trigger_statuses
        over = (lane for lane, until in trigger_statuses.pending.items() if until <= now)
        for lane in list(islice(over, AT_ONCE)):
            yield self._settled(trigger_of(lane), trigger_statuses.of(lane).pending[0])
