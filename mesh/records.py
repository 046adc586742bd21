"""The record types: what the log contains, who writes each, and how records are checked.

Every change of state is one of these records.  A record is JSON, tagged with its type and decoded strictly.  A message
that is not a record, or that the actor of its subject is not allowed to write, changes nothing: callers choose their
reply subjects, so that any message can appear on the log.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final, NamedTuple

import msgspec

from muster.mesh import names
from muster.mesh.caller import BROKER, Caller, CallerKind
from muster.mesh.errors import MALFORMED
from muster.mesh.model import Direct, Job, Order, OrderState
from muster.mesh.nesting import WRAPPED, check_levels
from muster.mesh.structs import Digest, Moment, Name, PoolName, Wire

NOTHING: Final = msgspec.Raw(b"{}")


class Record(Wire, omit_defaults=True, tag_field="type"):
    """Base of all records.

    Each class sets `kw_only` itself, because mypy does not see that `Wire` sets it.
    """

    kind: ClassVar[str]
    """The third token of the subject: what the record is about."""
    by_element: ClassVar[bool] = False
    """True if the element that runs the order writes it; otherwise the broker does."""
    by: Caller = BROKER
    """Who caused it.  For a record that an element writes, the actor of the subject is the caller: see `caller_of`."""

    @property
    def about(self) -> str:
        """The id of the object that the record is about; the subject contains it too."""
        raise NotImplementedError

    @property
    def starts_on(self) -> str:
        """The element that the order starts on at once; the subject contains it too."""
        return ""


class OrderRecord(Record, kw_only=True):
    """Base of the records about one order."""

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
    """The number of firings that led to it."""
    where: str | None = None
    """The filter that defines `pool`, if the pool has no name."""
    has_on_failure: bool = False
    has_always: bool = False
    """Whether its blueprint has `on_failure` and `always`."""
    start: Direct | None = None
    """The agent of `element` that runs it from now on: the record is its claim as well."""

    @property
    def starts_on(self) -> str:
        """The element, if the record names its agent."""
        return self.element or "" if self.start else ""


class Due(OrderRecord, tag="due", kw_only=True):
    """The time that an order waited for has come (`not_before`, or the `until` of a suspended task)."""


class Claimed(OrderRecord, tag="claimed", kw_only=True):
    """An element claimed the order and runs it.  Written by compare-and-set on the order's `rev`."""

    by_element = True
    attempt: int
    element: Name
    agent: Name
    inputs: dict[str, Any] | None = None
    """All inputs, including the claiming element's params; None if these add nothing."""
    sources: dict[str, str] | None = None


class Reported(OrderRecord, tag="reported", kw_only=True):
    """Jobs started or ended, and the order continues."""

    by_element = True
    attempt: int
    jobs: tuple[Job, ...]


class Suspended(OrderRecord, tag="suspended", kw_only=True):
    """The order waits without holding a slot, until a time or for its children."""

    by_element = True
    attempt: int
    jobs: tuple[Job, ...]
    until: Moment | None = None
    children: bool = False
    orders: tuple[Name, ...] = ()
    """The children that it waits for, if not for all; they are cancelled if the time comes before they end."""
    why: str = ""
    """The reason of the wait, as text that follows the time."""
    cleans_up: bool = False
    """Whether its blueprint has `always`, which must run if the order is cancelled meanwhile; as in `Created`."""


class Done(OrderRecord, tag="done", kw_only=True):
    """The attempt ended the order: finished, failed or cancelled."""

    by_element = True
    attempt: int
    state: OrderState
    reason: str = ""
    jobs: tuple[Job, ...] = ()
    outputs: dict[str, Any] = {}


class Lost(OrderRecord, tag="lost", kw_only=True):
    """The agent that ran this attempt was lost: its lease expired, or it came back without the order."""

    attempt: int
    reason: str
    ran: bool = True
    """Whether the agent could have run any of it; an order that it declined does not count as lost."""


class GivenUp(OrderRecord, tag="given_up", kw_only=True):
    """The order ends because no agent can run it, or because none has run its clean-up in time."""

    reason: str


class CancelRequested(OrderRecord, tag="cancel_requested", kw_only=True):
    """A request to cancel the order."""

    key: str = ""
    """Makes the request safe to repeat: the same key has one effect."""


class Retried(OrderRecord, tag="retried", kw_only=True):
    """A request to continue a failed or cancelled order at its first unfinished task.

    It contains the ended order, because only open orders stay in memory.
    """

    snapshot: Order
    key: str = ""
    """As in `CancelRequested`."""


class ElementRecord(Record, kw_only=True):
    """Base of the records about one element."""

    kind = "element"
    element: Name

    @property
    def about(self) -> str:
        """The element's name."""
        return self.element


class Joined(ElementRecord, tag="joined", kw_only=True):
    """An agent acts for the element, which is online now."""

    agent: Name
    place: str = ""
    """Host and state folder of the agent; empty: the same as before."""


class Left(ElementRecord, tag="left", kw_only=True):
    """The agent of the element left, or was silent for too long; the element is offline now."""

    agent: Name
    reason: str


class ModeChanged(ElementRecord, tag="mode_changed", kw_only=True):
    """The mode of the element was changed."""

    mode: str


class DrainChanged(ElementRecord, tag="drain_changed", kw_only=True):
    """The element was drained, or accepts orders again."""

    drained: bool


class OtherRecord(Record, kw_only=True):
    """Base of the records about neither an order nor an element; they have ids of their own."""

    id: Name

    @property
    def about(self) -> str:
        """The id of the record."""
        return self.id


class Facts(Wire, omit_defaults=True):
    """What its kind says of a manifest.

    It is written down with the manifest, because what happens to be installed on a broker must not decide anything.
    """

    is_element: bool = False
    uses: tuple[str, ...] = ()
    """What must not be deleted while it is there: `KIND/NAME`, or `element/NAME` for an element of any kind."""


class Applied(OtherRecord, tag="applied", kw_only=True):
    """Manifests were applied, all in one record."""

    kind = "objects"
    manifests: tuple[dict[str, Any], ...]
    """Each has `kind` and `name`, and was validated before the record was written."""
    facts: dict[str, Facts] = {}
    """By `KIND/NAME`, what their kinds say of them."""


class Deleted(OtherRecord, tag="deleted", kw_only=True):
    """An object was deleted."""

    kind = "objects"
    object_kind: Name
    name: Name


class Rejected(OtherRecord, tag="rejected", kw_only=True):
    """A message on the inbox was invalid.  The record keeps it with the reason."""

    kind = "inbox"
    subject: str
    reason: str
    body: str
    """The start of the message, as text."""


class Announced(OtherRecord, tag="announced", kw_only=True):
    """A message arrived on `muster.inbox.events.<name>`."""

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
    """The inputs, if they differ from the firing's because of its element."""
    sources: dict[str, str] | None = None
    group: str | None = None
    """The value of the trigger's `key` for its item; None: that of the firing."""


class Fired(OtherRecord, tag="fired", kw_only=True):
    """A trigger fired.  The record creates the orders of the firing, so that none exists without it.

    Its subject is that of the first order, even if there is none: a claim of that order proves the firing.
    """

    kind = "order"
    trigger: Name
    version: int
    """The trigger's."""
    event: msgspec.Raw = NOTHING
    """The JSON of the event, which is not parsed here."""
    key: str = ""
    due: Moment | None = None
    depth: int = 0
    group: str | None = None
    """The value of the trigger's `key`; an order can have its own."""
    rejected: str = ""
    """Why it cannot create orders."""
    quiet: float = 0.0
    """If not 0, the firing is pending: it creates its orders after these seconds without another of its lane."""
    at_most: float = 0.0
    """Seconds from the start of the burst, after which its latest firing creates its orders in any case."""
    settles: bool = False
    """Whether it is the second record of a pending firing, which creates its orders now."""
    blueprint: str = ""
    blueprint_version: int = 0
    digest: Digest = ""
    inputs: dict[str, Any] = {}
    sources: dict[str, str] = {}
    labels: dict[str, str] = {}
    orders: tuple[Planned, ...] = ()
    has_on_failure: bool = False
    has_always: bool = False
    """Whether their blueprint has `on_failure` and `always`."""
    start: Direct | None = None
    """The agent that runs its only order from now on, as in `Created`."""

    @property
    def about(self) -> str:
        """The id of its first order."""
        return self.orders[0].id if self.orders else names.order_of(self.id, 0)

    @property
    def starts_on(self) -> str:
        """The element of its only order, if the record names its agent."""
        return self.orders[0].element or "" if self.start and len(self.orders) == 1 else ""


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
    """Encodes a record for the log."""
    return _encoder.encode(record)


def subject(record: Record, actor: str = names.BROKER) -> str:
    """Returns the subject that the record is written to."""
    if element := record.starts_on:
        return names.log_start(record.about, element)
    return names.log(record.kind, record.about, actor)


class Place(NamedTuple):
    """The parts of a log subject."""

    kind: str
    ident: str
    actor: str
    starts_on: str = ""


def decode(on: str, data: bytes) -> tuple[AnyRecord | str, Place | None]:
    """Decodes the record on subject `on`: the record or the reason why it is refused, and the parts of the subject."""
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
    """Returns who caused a record that `actor` wrote."""
    return Caller(kind=CallerKind.AGENT, name=actor) if record.by_element else record.by


def _why_not(record: AnyRecord, place: Place, on: str) -> str:
    """Returns why a record is not allowed on its subject; empty if it is."""
    kind, ident, actor, starts_on = place
    if not names.is_name(actor):
        return f"{actor[:80]!r} is not a name"
    if record.kind != kind or record.about != ident or record.starts_on != starts_on:
        return f"a {type(record).__name__} record about {record.about!r} is not allowed on {on}"
    if record.by_element == (actor == names.BROKER):
        return f"{actor!r} must not write a {type(record).__name__} record"
    if record.by_element and record.by is not BROKER:
        return f"{actor!r} must not name another author of its {type(record).__name__} record"
    if type(record) is Claimed and record.element != actor:
        return f"{actor!r} must not claim for {record.element!r}"
    return ""
