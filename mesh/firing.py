"""The messages between trigger services and brokers: definitions one way, firings the other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final

import msgspec

from muster.mesh.structs import Moment, Wire

MOST_DUE: Final = 5000
"""The longest page of last due times."""


class FiringState(StrEnum):
    """The result of a firing."""

    FIRED = "fired"
    """It created its orders."""
    SKIPPED = "skipped"
    """It created none on purpose: too many are open (`max_open`), or its trigger is cooling down (`cooldown`)."""
    REJECTED = "rejected"
    """It could not create any: a template failed, the blueprint is gone, nothing matches; the reason says."""
    PENDING = "pending"
    """It creates its orders once no other firing of its key has come for as long as `debounce` says."""
    SUPERSEDED = "superseded"
    """Another one of the same burst came while it was pending, and creates the orders instead."""


class Definition(Wire, omit_defaults=True, rename={"with_": "with"}):
    """A trigger as a trigger service needs it: one key of `names.TRIGGER_BUCKET`."""

    name: str
    version: int
    provider: str
    changed_at: datetime
    """When this version was applied."""
    begun_at: datetime | None = None
    """From when its schedule counts (an interval, say): a change of other fields keeps it."""
    active_at: datetime | None = None
    """Since when it has been enabled with these settings: nothing before it counts."""
    seq: int = 0
    """The log sequence at which it was applied: the greater one is newer, even if a clock was set back."""
    with_: dict[str, Any] = {}
    enabled: bool = True
    headers: tuple[str, ...] = ()
    """Headers of deliveries that its manifest reads by name; a trigger service keeps few others."""


MADE_NOTHING: Final = frozenset({FiringState.SKIPPED, FiringState.REJECTED})
"""The results of firings whose event may be sent again."""


class FireRequest(Wire, omit_defaults=True):
    """An event met a trigger: `muster.api.firings.create`."""

    trigger: str
    event: dict[str, Any]
    """What `when` and templates see as `event`: body, headers, provider, kind, id, time and the provider's own."""
    key: str = ""
    """What makes it the same event as before (delivery id, due time, event id); empty: it is never the same."""
    version: int | None = None
    """The definition's version that it was matched with; if that is not the present one, nothing happens."""
    due: Moment | None = None
    """For a schedule: the time it was due."""
    depth: Annotated[int, msgspec.Meta(ge=0)] = 0
    """How many firings led to it, each having caused the next."""
    rejected: str = ""
    """Why it can make no orders, if the trigger service knows that already: it is put on the log with this reason."""
    try_again: bool = False
    """Whether a firing of this key that made no orders is tried again: the event was sent again, not read again."""


class FireReply(Wire, omit_defaults=True):
    """The answer.  Exactly one of `firing`, `ignored` and `stale` is set."""

    firing: str = ""
    """The firing's id: it is on the log."""
    state: FiringState | None = None
    reason: str = ""
    """Why there are no orders."""
    orders: tuple[str, ...] = ()
    duplicate: bool = False
    """The event is a duplicate; the other fields describe its first firing."""
    ignored: str = ""
    """Why the event does not concern the trigger (`when` does not hold); nothing was written."""
    stale: bool = False
    """The trigger has changed meanwhile: match the event with its new definition."""


class Firing(Wire, omit_defaults=True):
    """One time a trigger fired, and the orders that it created."""

    id: str
    trigger: str
    version: int
    state: FiringState
    time: datetime
    """When it came on the log."""
    reason: str = ""
    key: str = ""
    due: datetime | None = None
    until: datetime | None = None
    """When a pending one makes its orders, unless another one of the burst comes before."""
    superseded_by: str = ""
    """The firing of the same burst that came after it."""
    depth: int = 0
    group: str | None = None
    """What the trigger's `key` gave, unless that is another for each item."""
    by: str = ""
    event: Any = None
    """Its JSON; a broker that only passes it on has it as `msgspec.Raw`."""
    orders: tuple[str, ...] = ()
    seq: int = 0
    """The log sequence of its (first) record."""


Fire = Callable[[FireRequest], Awaitable[FireReply]]
"""Puts a firing on the log, by NATS or in the broker's own process.

Raises NotFoundError (no such trigger, or disabled), InvalidError, or UnavailableError (it may be on the log, or not).
"""


class DueQuery(Wire, omit_defaults=True):
    """Which schedules' last due times to list: `muster.api.triggers.due`, in pages by name."""

    after: str = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=MOST_DUE)] = MOST_DUE


class DueReply(Wire):
    """The last due time that is on the log, by trigger; triggers that never fired are left out."""

    last: dict[str, datetime]
    next: str | None = None


MOST_TROUBLES: Final = 500
"""Triggers in one report."""

TROUBLES_EVERY: Final = 5.0
"""Seconds after which a report is repeated."""


class Troubles(Wire):
    """What a trigger service reports on `muster.trouble.<service>`."""

    host: str
    reasons: dict[str, str]
    """By trigger: why it cannot work there just now."""
