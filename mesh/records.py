"""Every record type: what may stand in the log, who may write it, and how it is told from noise.

Everything that changes state is one of these.  A record is JSON, tagged with its type and decoded
strictly: what does not decode as a record that its subject's actor may write changes nothing
(design.md §3: a reply subject is the caller's choice, so anything can land on the log).
"""

from __future__ import annotations

from typing import Any, ClassVar, Final, NamedTuple

import msgspec

from muster.mesh import names
from muster.mesh.caller import BROKER, Caller, CallerKind
from muster.mesh.errors import MALFORMED
from muster.mesh.model import Digest, Job, Moment, Name, Order, OrderState, PoolName, Wire
from muster.mesh.nesting import WRAPPED, check_levels

NOTHING: Final = msgspec.Raw(b"{}")


class Record(Wire, omit_defaults=True, tag_field="type"):
    """Base of all records.

    They say `kw_only` themselves because mypy does not see that `Wire` makes them so.
    """

    kind: ClassVar[str]
    """The subject's third token: what the record is about."""
    by_element: ClassVar[bool] = False
    """Written by the element that holds the order; all others are the broker's."""
    by: Caller = BROKER
    """Who caused it.  Of a record that an element writes, the subject's actor says it: see `caller_of`."""

    @property
    def about(self) -> str:
        """The id of what the record is about; the subject says the same."""
        raise NotImplementedError

    @property
    def begins_on(self) -> str:
        """The element that its order begins on at once; the subject says the same."""
        return ""


class OrderRecord(Record, kw_only=True):
    """Base of what happens to one order."""

    kind = "order"
    order: Name

    @property
    def about(self) -> str:
        """The order's id."""
        return self.order


class Created(OrderRecord, tag="created", kw_only=True):
    """An order was accepted.  It is validated and its blueprint version is pinned."""

    blueprint: Name
    version: int
    digest: Digest
    element: Name | None = None
    pool: PoolName | None = None
    inputs: dict[str, Any] = {}
    sources: dict[str, str] = {}
    not_before: Moment | None = None
    labels: dict[str, str] = {}
    parent: Name | None = None
    depth: int = 0
    chain: int = 0
    """How many firings stand above it."""
    where: str | None = None
    """The filter that defines `pool`, if the pool has no name."""
    has_on_failure: bool = False
    has_always: bool = False
    """What its blueprint cleans up with."""
    agent: Name | None = None
    """The daemon on `element` that runs it from now on: the record is its claim as well."""
    beat: float = 0.0
    """When that daemon was last heard of, by its own clock."""

    @property
    def begins_on(self) -> str:
        """The element, if the record names its agent."""
        return self.element or "" if self.agent else ""


class Due(OrderRecord, tag="due", kw_only=True):
    """The time that an order waited for has come (`not_before`, or a suspended task's `until`)."""


class Claimed(OrderRecord, tag="claimed", kw_only=True):
    """An element took the order and runs it now.  Written by compare-and-set on the order's `rev`."""

    by_element = True
    attempt: int
    element: Name
    agent: Name
    inputs: dict[str, Any] | None = None
    """All inputs once the claiming element's params are in; None if they add nothing."""
    sources: dict[str, str] | None = None


class Reported(OrderRecord, tag="reported", kw_only=True):
    """Jobs started or ended while the order goes on."""

    by_element = True
    attempt: int
    jobs: tuple[Job, ...]


class Suspended(OrderRecord, tag="suspended", kw_only=True):
    """The order waits without holding a slot: until a time, or for its children."""

    by_element = True
    attempt: int
    jobs: tuple[Job, ...]
    until: Moment | None = None
    children: bool = False
    orders: tuple[Name, ...] = ()
    """Which `children` it waits for, if not for all; cancelled if the time comes before their end."""
    why: str = ""
    """What it waits for, in words that follow the time."""
    cleans_up: bool = False
    """Its blueprint has `always`, which has to run should it be cancelled meanwhile; `Created` says so as well."""


class Done(OrderRecord, tag="done", kw_only=True):
    """The attempt ended the order: finished, failed or cancelled."""

    by_element = True
    attempt: int
    state: OrderState
    reason: str = ""
    jobs: tuple[Job, ...] = ()
    outputs: dict[str, Any] = {}


class Lost(OrderRecord, tag="lost", kw_only=True):
    """The agent that ran this attempt is gone: its lease ran out, or it came back without the work."""

    attempt: int
    reason: str
    ran: bool = True
    """Whether the agent may have run any of it; what it declined at once does not count as lost."""


class GivenUp(OrderRecord, tag="given_up", kw_only=True):
    """No agent can be given the order, or none has run its clean-up in time: it ends."""

    reason: str


class CancelRequested(OrderRecord, tag="cancel_requested", kw_only=True):
    """Somebody wants the order stopped."""

    key: str = ""
    """Makes it safe to ask again: the same key, one effect."""


class Retried(OrderRecord, tag="retried", kw_only=True):
    """Somebody wants a failed or cancelled order to go on at its first unfinished task.

    It carries the order as it ended, because only open orders stay in memory.
    """

    snapshot: Order
    key: str = ""
    """As in `CancelRequested`."""


class ElementRecord(Record, kw_only=True):
    """Base of what happens to one element."""

    kind = "element"
    element: Name

    @property
    def about(self) -> str:
        """The element's name."""
        return self.element


class Joined(ElementRecord, tag="joined", kw_only=True):
    """An agent acts for the element now: it is online."""

    agent: Name
    place: str = ""
    """Host and state folder of the agent; empty: where the last one was."""


class Left(ElementRecord, tag="left", kw_only=True):
    """Its agent said good-bye, or was not heard of for too long: it is offline."""

    agent: Name
    reason: str


class ModeChanged(ElementRecord, tag="mode_changed", kw_only=True):
    """The element was switched to another mode."""

    mode: str


class DrainChanged(ElementRecord, tag="drain_changed", kw_only=True):
    """The element takes nothing new from now on, or takes work again."""

    drained: bool


class OtherRecord(Record, kw_only=True):
    """Base of what is about neither an order nor one element; it has an id of its own."""

    id: Name

    @property
    def about(self) -> str:
        """The record's own id."""
        return self.id


class Applied(OtherRecord, tag="applied", kw_only=True):
    """Manifests were applied: all of them, in one record, or none."""

    kind = "objects"
    manifests: tuple[dict[str, Any], ...]
    """Each with `kind` and `name`, validated before it was written."""


class Deleted(OtherRecord, tag="deleted", kw_only=True):
    """An object was deleted."""

    kind = "objects"
    object_kind: Name
    name: Name


class Rejected(OtherRecord, tag="rejected", kw_only=True):
    """A message on the inbox could not be used; it is kept here with the reason."""

    kind = "inbox"
    subject: str
    reason: str
    body: str
    """The message's start, as text."""


class Announced(OtherRecord, tag="announced", kw_only=True):
    """Somebody told of something by name, on `muster.inbox.events.<name>`."""

    kind = "inbox"
    name: Name
    body: Any = None


class Planned(Wire, omit_defaults=True):
    """One order of a firing."""

    id: Name
    element: Name | None = None
    pool: PoolName | None = None
    where: str | None = None
    """The filter that defines `pool`, if the pool has no name."""
    inputs: dict[str, Any] | None = None
    """If its element makes them others than the firing's."""
    sources: dict[str, str] | None = None
    group: str | None = None
    """What the trigger's `key` gave for its item; None: as the firing."""


class Fired(OtherRecord, tag="fired", kw_only=True):
    """A trigger went off.  The record makes the firing's orders itself, so none is without its firing.

    It stands where the first of them stands, whether or not there is one: a claim of that order proves it.
    """

    kind = "order"
    trigger: Name
    version: int
    """The trigger's."""
    event: msgspec.Raw = NOTHING
    """Its JSON, which nobody needs to read here."""
    key: str = ""
    due: Moment | None = None
    depth: int = 0
    group: str | None = None
    """What the trigger's `key` gave; an order may say another."""
    rejected: str = ""
    """Why there can be no orders."""
    quiet: float = 0.0
    """Seconds without another firing of its lane until it makes its orders: it is pending, and has none yet."""
    at_most: float = 0.0
    """Seconds from its burst's begin until the latest of the burst makes its orders, quiet or not."""
    settles: bool = False
    """Whether it is the second record of a firing that was pending: now it makes its orders."""
    blueprint: str = ""
    blueprint_version: int = 0
    digest: Digest = ""
    inputs: dict[str, Any] = {}
    sources: dict[str, str] = {}
    labels: dict[str, str] = {}
    orders: tuple[Planned, ...] = ()
    has_on_failure: bool = False
    has_always: bool = False
    """What their blueprint cleans up with."""
    agent: Name | None = None
    """The daemon that runs its only order from now on, as in `Created`."""
    beat: float = 0.0

    @property
    def about(self) -> str:
        """The id of its first order."""
        return self.orders[0].id if self.orders else names.order_of(self.id, 0)

    @property
    def begins_on(self) -> str:
        """The element of its only order, if the record names its agent."""
        return self.orders[0].element or "" if self.agent and len(self.orders) == 1 else ""


AnyRecord = (
    Created
    | Due
    | Claimed
    | Reported
    | Suspended
    | Done
    | Lost
    | GivenUp
    | CancelRequested
    | Retried
    | Joined
    | Left
    | ModeChanged
    | DrainChanged
    | Applied
    | Deleted
    | Rejected
    | Announced
    | Fired
)

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(AnyRecord)


def encode(record: Record) -> bytes:
    """The record as it stands in the log."""
    return _encoder.encode(record)


def subject(record: Record, actor: str = names.BROKER) -> str:
    """Where the record is written."""
    if element := record.begins_on:
        return names.log_begun(record.about, element)
    return names.log(record.kind, record.about, actor)


class Place(NamedTuple):
    """What a log subject says."""

    kind: str
    ident: str
    actor: str
    begins_on: str = ""


def decode(on: str, data: bytes) -> tuple[AnyRecord | str, Place | None]:
    """The record on subject `on`, or why it is none that its actor may write; and what the subject says."""
    parts = names.log_parts(on)
    if parts is None:
        return "not a log subject", None
    place = Place(*parts)
    try:
        record: AnyRecord = _decoder.decode(data)
        check_levels(data, WRAPPED)
    except MALFORMED as error:
        return str(error), place
    return _why_not(record, place, on) or record, place


def caller_of(record: Record, actor: str) -> Caller:
    """Returns who caused a record that `actor` has written."""
    return Caller(kind=CallerKind.AGENT, name=actor) if record.by_element else record.by


def _why_not(record: AnyRecord, place: Place, on: str) -> str:
    """Why a record may not stand where it stands; empty if it may."""
    kind, ident, actor, begins_on = place
    if not names.is_name(actor):
        return f"{actor[:80]!r} is not a name"
    if record.kind != kind or record.about != ident or record.begins_on != begins_on:
        return f"a {type(record).__name__} record about {record.about!r} may not stand on {on}"
    if record.by_element == (actor == names.BROKER):
        return f"{actor!r} may not write a {type(record).__name__} record"
    if record.by_element and record.by is not BROKER:
        return f"{actor!r} may not say who else has written its {type(record).__name__} record"
    if type(record) is Claimed and record.element != actor:
        return f"{actor!r} may not claim for {record.element!r}"
    return ""
