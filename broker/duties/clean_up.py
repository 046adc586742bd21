"""Clean-ups that nobody runs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from muster.broker.duties.duty import Duty
from muster.broker.lease import Lease
from muster.broker.state.world import World
from muster.mesh.records import GivenUp

LEASES: Final = 20
"""Leases for which an order waits until its element takes its clean-up: ten minutes with the default lease."""


class EndCleanUps(Duty):
    """Ends orders whose element did not take their clean-up in time.

    Only the element that ran the tasks can clean up after them.  Its host may be restarting, so it has a while;
    if it does not come back, the order must end all the same, and say that nobody has cleaned up.
    """

    every = 0.5

    def __init__(self, lease: Lease) -> None:
        self._lease = lease

    def run_once(self, state: World, now: datetime) -> Iterator[GivenUp]:
        """A GivenUp for each order that has waited for too long."""
        within = self._lease.longer * LEASES
        for ident, since in state.clean_ups.items():
            if now - since >= within:
                where = state.orders[ident].element
                seconds = within.total_seconds()
                yield GivenUp(order=ident, reason=f"its clean-up did not run: {where} did not take it in {seconds:g} s")
