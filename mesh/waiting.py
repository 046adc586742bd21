"""Why an order waits: one struct a reason; `broker/state/waiting.py` has its words and what ends it."""

from __future__ import annotations

from datetime import datetime

from muster.mesh.structs import Name, Wire


class Schedule(Wire, tag_field="for", tag="schedule"):
    """The order must not start before a time."""

    at: datetime


class Until(Wire, tag_field="for", tag="until", omit_defaults=True):
    """A suspended task continues at a time."""

    at: datetime
    why: str = ""
    """The reason of the wait, as text that follows the time."""


class Children(Wire, tag_field="for", tag="children", omit_defaults=True):
    """The order continues when its child orders have ended."""

    ids: tuple[Name, ...] = ()
    """The child orders that it waits for; empty for all."""
    at: datetime | None = None
    """The latest time at which it continues; then open `ids` are cancelled."""
    why: str = ""


class Lane(Wire, tag_field="for", tag="lane"):
    """The lane has as many open orders as it allows."""

    name: str
    limit: int


class WorkflowMode(Wire, tag_field="for", tag="mode"):
    """Every element that could run the order is in workflow mode."""


class Drained(Wire, tag_field="for", tag="drained"):
    """Every element that could run the order is drained."""


class NoElement(Wire, tag_field="for", tag="no_element"):
    """No element exists that could run the order."""


class NoAgent(Wire, tag_field="for", tag="no_agent", omit_defaults=True):
    """The order is offered, and every agent that could claim it is offline."""

    target: str
    elements: int = 1
    """The number of these elements."""
    last: str = ""
    """The element that was online last; empty if none ever was."""
    since: datetime | None = None
    """When that element went offline."""


class NoSlot(Wire, tag_field="for", tag="no_slot"):
    """The order is offered, and the elements that could claim it have no free slot."""

    target: str
    slots: int
    orders: tuple[Name, ...]
    """The orders that use the slots."""
    place: int
    """Its position in the queue, from 1."""


class Silent(Wire, tag_field="for", tag="silent"):
    """The order runs, and its agent is offline: either that returns, or its lease ends and the order is lost."""

    element: Name
    since: datetime | None
    """When the element went offline."""


Waiting = Schedule | Until | Children | Lane | WorkflowMode | Drained | NoElement | NoAgent | NoSlot | Silent
"""Why an order waits; `broker/state/waiting.py` has the text and the end of each reason."""
