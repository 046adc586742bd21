"""The slots of one element: how many of its orders run here, how many more may, and which wait for one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from muster.mesh.messages import Assignment

if TYPE_CHECKING:
    from muster.agent.hold import Hold

MOST_AHEAD: Final = 32
"""The most of an element's own orders that are fetched before they can start."""


class Slots:
    """Counts.  `Orders` changes what is counted, `Fetch` goes by it."""

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self.busy = 0
        self.is_closed = False
        self.waiting: dict[str, Hold] = {}
        """Direct starts without a slot, the oldest first."""
        self.fetched: dict[str, Hold] = {}
        """Offered orders without a slot, the oldest first."""
        self.on_change: Callable[[], None] = lambda: None
        """Called when an order has got or left a slot."""

    @property
    def element(self) -> str:
        """Its name."""
        return self.assignment.element

    @property
    def takes_work(self) -> bool:
        """Whether new orders may be fetched and claimed."""
        return self.assignment.takes_work and not self.is_closed

    @property
    def free(self) -> int:
        """How many more orders may be claimed now."""
        return max(self.assignment.slots - self.busy - len(self.waiting), 0) if self.takes_work else 0

    @property
    def wanted(self) -> int:
        """How many of the element's own orders to fetch: for the free slots, and some ahead."""
        if not self.takes_work:
            return 0
        return max(self.free + min(MOST_AHEAD, self.assignment.slots) - len(self.fetched), 0)

    def next(self) -> Hold | None:
        """The order that gets a slot now: direct starts, which are ours already, come first."""
        if self.waiting and self.busy < self.assignment.slots and not self.is_closed:
            return next(iter(self.waiting.values()))
        if self.fetched and self.free > 0:
            return next(iter(self.fetched.values()))
        return None

    def leave_queue(self, hold: Hold) -> None:
        """An order waits for a slot no more."""
        self.waiting.pop(hold.order, None)
        self.fetched.pop(hold.order, None)
