"""Who asks for something: goes with every request into its handler, and into every record that comes of it.

The log is the audit: each of its records says who caused it, either in its `by` or, for what an agent writes, by the
actor of its subject.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from muster.mesh.structs import Wire


class CallerKind(StrEnum):
    """What a caller is."""

    USER = "user"
    """A person, or a program with a user's token.  Until there are users: whoever has the mesh's token."""
    AGENT = "agent"
    """The agent of an element; its name is the element's."""
    TRIGGER = "trigger"
    """A trigger that received an event."""
    SCHEDULE = "schedule"
    """A schedule that came due."""
    STEWARD = "steward"
    """An agent of the control plane, which acts for elements without an agent of their own."""
    ORDER = "order"
    """An order that ends others with itself: a parent."""
    BROKER = "broker"
    """The control plane itself, by one of its duties."""


class Caller(Wire, omit_defaults=True):
    """Who asks."""

    kind: CallerKind = CallerKind.USER
    name: str = ""
    """Empty for whoever has the mesh's token: it names nobody."""
    door: str = ""
    """How the request came in: `http`, `nats`, `inbox`; empty if it came from inside."""
    roles: tuple[str, ...] = ()
    """What it may do; empty until there are roles."""

    def __str__(self) -> str:
        """Returns the caller as people read it: `anna`, `http`, `trigger nightly`."""
        if self.kind is CallerKind.USER:
            return self.name or self.door or "user"
        return f"{self.kind} {self.name}" if self.name else str(self.kind)

    @property
    def scope(self) -> str:
        """Whose idempotency keys the caller's are: the same key of two scopes makes two requests.

        Empty for whoever has the mesh's token, through every door.
        """
        return f"{self.kind} {self.name}" if self.name else ""


BROKER: Final = Caller(kind=CallerKind.BROKER)
"""The control plane itself."""
