"""The things that every process names: orders, jobs, elements, and the packets between processes.

All are frozen structs that refuse unknown fields, because each of them crosses a process boundary.
Times are UTC; a record's time is JetStream's, a job's is its agent's.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final, dataclass_transform

import msgspec

from muster.mesh import names


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class FrozenMeta(msgspec.StructMeta):
    """Makes every subclass frozen and keyword-only, and tells type checkers so."""

    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any) -> FrozenMeta:
        """A struct type; msgspec itself hands `frozen` down, but not `kw_only`."""
        options.setdefault("kw_only", True)
        return super().__new__(cls, name, bases, namespace, **options)


class Wire(msgspec.Struct, metaclass=FrozenMeta, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of whatever crosses a process boundary."""


Name = Annotated[str, msgspec.Meta(pattern=names.NAME_PATTERN)]
"""A name or an id that becomes part of a subject, a header, a key or a folder."""

PoolName = Annotated[str, msgspec.Meta(pattern=names.POOL_PATTERN)]
Digest = Annotated[str, msgspec.Meta(pattern=names.DIGEST_PATTERN)]


class OrderState(StrEnum):
    """Where an order stands; what leads in and out is in `broker/state/table.py`."""

    QUEUED = "queued"
    OFFERED = "offered"
    RUNNING = "running"
    SUSPENDED = "suspended"
    CANCELLING = "cancelling"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINAL_STATES = frozenset({OrderState.FINISHED, OrderState.FAILED, OrderState.CANCELLED})


class JobState(StrEnum):
    """Where one task's run stands."""

    RUNNING = "running"
    SUSPENDED = "suspended"
    FINISHED = "finished"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


FINAL_JOB_STATES = frozenset({JobState.FINISHED, JobState.FAILED, JobState.SKIPPED, JobState.CANCELLED})


class Mode(StrEnum):
    """What an element is for at present."""

    WORKFLOW = "workflow"
    WORK_ORDER = "work_order"


class Job(Wire):
    """One task's run inside an order."""

    name: Name
    """The task's name, unique in its blueprint."""
    state: JobState
    attempt: int = 1
    """Which try of the task this is; a retry and a lost agent count one up."""
    tries: int = 1
    """How many its `retry` has counted; a lost attempt's do not count."""
    exit_code: int | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    outputs: dict[str, Any] = {}
    error: str | None = None
    """Why it failed, in words."""
    idempotent: bool = True
    """Whether it may be run again after a lost attempt."""
    memo: dict[str, Any] | None = None
    """What a suspended task wants to be told when it goes on."""
    deadline: datetime | None = None
    """When this try is over, whether it runs or is suspended; None: its task has no `timeout`."""


class Child(Wire):
    """What an order knows of a child order it made."""

    state: OrderState
    reason: str = ""
    outputs: dict[str, Any] = {}


class Loss(Wire):
    """An attempt at an order whose agent was lost."""

    attempt: int
    element: Name
    at: datetime
    reason: str


class Runner(Wire):
    """Who has run an order from an attempt on."""

    attempt: int
    element: Name


class Schedule(Wire, tag_field="for", tag="schedule"):
    """The order must not start before a time."""

    at: datetime


class Until(Wire, tag_field="for", tag="until", omit_defaults=True):
    """A suspended task continues at a time."""

    at: datetime
    why: str = ""
    """What it waits for, in words that follow the time."""


class Children(Wire, tag_field="for", tag="children", omit_defaults=True):
    """The order continues when its child orders have ended."""

    ids: tuple[Name, ...] = ()
    """Those; empty: all that it has."""
    at: datetime | None = None
    """When it continues at the latest: `ids` that are still open are cancelled then."""
    why: str = ""


class Lane(Wire, tag_field="for", tag="lane"):
    """As many orders of a lane are under way as may be."""

    name: str
    limit: int


class WorkflowMode(Wire, tag_field="for", tag="mode"):
    """Every element that could run the order is in workflow mode."""


class Drained(Wire, tag_field="for", tag="drained"):
    """Every element that could run the order takes nothing new."""


class NoElement(Wire, tag_field="for", tag="no_element"):
    """No element is there that could run the order."""


class NoAgent(Wire, tag_field="for", tag="no_agent", omit_defaults=True):
    """The order is offered, and every agent that could claim it is offline."""

    target: str
    elements: int = 1
    """How many elements that are."""
    last: str = ""
    """The one that was online last; empty: none ever was."""
    since: datetime | None = None
    """When that one went offline."""


class NoSlot(Wire, tag_field="for", tag="no_slot"):
    """The order is offered, and every slot of those that could claim it is taken."""

    target: str
    slots: int
    orders: tuple[Name, ...]
    """The orders that hold the slots."""
    place: int
    """Its place in the line, from 1."""


Waiting = Schedule | Until | Children | Lane | WorkflowMode | Drained | NoElement | NoAgent | NoSlot
"""Why nothing happens to an order for now; `broker/state/waiting.py` says of each its words and what ends it."""


class CancelHow(StrEnum):
    """How an order is to be stopped."""

    GENTLE = "gentle"
    FORCE = "force"
    KILL = "kill"


class Cancel(Wire, tag_field="by_way_of", tag="cancel", omit_defaults=True):
    """Somebody wants the order stopped."""

    by: str
    how: CancelHow = CancelHow.GENTLE


class CleanUp(Wire, tag_field="by_way_of", tag="clean_up"):
    """The order has come to its end, but for its clean-up."""

    state: OrderState
    """`failed`: `on_failure` and `always` are still to be run; `cancelled`: only `always`."""
    reason: str
    since: datetime


Ending = Cancel | CleanUp
"""How an order is about to end."""


class Offered(Wire, tag_field="by", tag="offer"):
    """The order goes to its runner by a message on the work stream, and is claimed by compare-and-set."""

    rev: int
    """The last log sequence on the order's subjects; a claim that finds another one has lost the race."""


class Direct(Wire, tag_field="by", tag="record", omit_defaults=True):
    """The order starts with its first record, which names the agent that runs it."""

    agent: Name
    beat: float = 0.0
    """When that agent was last heard of, by its own clock."""


Start = Offered | Direct
"""How an order gets to the agent that runs it."""


class Order(Wire):
    """One run of a blueprint, for one element or for a pool."""

    id: Name
    blueprint: str
    version: int
    """The blueprint version it was made from; a later change does not touch it."""
    digest: Digest
    """The content address of that version, by which agents fetch it."""
    state: OrderState
    created_by: str
    created_at: datetime
    subject: Name | None = None
    """The element that it is about; None: whichever member of the pool claims it."""
    runner: Name | None = None
    """The element whose agent runs it, or is to run it; None while nobody of the pool has claimed it."""
    element: Name | None = None
    """What lists show: the subject, else the runner."""
    pool: PoolName | None = None
    reason: str = ""
    """Why it waits, in a word, or why it ended as it did."""
    waiting: Waiting | None = None
    """Why nothing happens to it for now."""
    ending: Ending | None = None
    """How it is about to end."""
    start: Direct | None = None
    """The direct start that it runs by; None: it was offered, or will be."""
    inputs: dict[str, Any] = {}
    sources: dict[str, str] = {}
    """Where each input's value came from: `order`, `element`, `profile:NAME`, `blueprint` …"""
    outputs: dict[str, Any] = {}
    attempt: int = 0
    """How many times it was claimed; reports of an older attempt are refused."""
    agent: Name | None = None
    """The daemon that claimed it last."""
    runners: tuple[Runner, ...] = ()
    """The elements that have run it, each from the attempt on with which it followed another one."""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    not_before: datetime | None = None
    """When it was asked to start at the earliest."""
    has_on_failure: bool = False
    has_always: bool = False
    """What its blueprint cleans up with."""
    cleans_up: bool = False
    """Some of its tasks may have run and its clean-up has not: its end has to let that run."""
    lost_in_row: int = 0
    """Attempts that were lost, one after another, since a job ended last; too many end the order."""
    losses: tuple[Loss, ...] = ()
    """The attempts that were lost, oldest first; the last ten."""
    labels: dict[str, str] = {}
    jobs: tuple[Job, ...] = ()
    parent: Name | None = None
    depth: int = 0
    """How many orders stand above it."""
    children: dict[Name, Child] = {}
    trigger: Name | None = None
    """The trigger that made it."""
    firing: Name | None = None
    """The firing that made it."""
    group: str | None = None
    """What its trigger's `key` gave: with those of the same it counts for `max_open`."""
    chain: int = 0
    """How many firings stand above one another up to it, each having caused the next."""
    where: str | None = None
    """The filter that defines its pool, if the pool has no name."""
    rev: int = 0
    """The log sequence of its last record: what a claim is compared with; 0 while only its firing's tells of it."""

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen to it, unless somebody retries it."""
        return self.state in FINAL_STATES

    @property
    def clean_up(self) -> CleanUp | None:
        """The clean-up that is all of it that is still to be run."""
        return self.ending if isinstance(self.ending, CleanUp) else None

    def runner_of(self, attempt: int) -> str | None:
        """The element that an attempt ran on; None if there was no such attempt."""
        if attempt > self.attempt:
            return None
        return next((it.element for it in reversed(self.runners) if it.attempt <= attempt), None)


Moment = Annotated[datetime, msgspec.Meta(tz=True)]
"""A time that says where on earth it is meant: RFC 3339 has no other (§4.4 of it tells why)."""


class OrderRequest(Wire, omit_defaults=True):
    """What `POST /api/v1/orders` and `muster.api.orders.create` take."""

    blueprint: str
    on: str | None = None
    pool: str | None = None
    where: str | None = None
    """A CEL filter over `element`."""
    count: int | None = None
    all: bool = False
    queue: bool = False
    """The filter defines a pool: one order, for whichever element that matches is free first, now or later."""
    inputs: dict[str, Any] = {}
    texts: dict[str, str] = {}
    """Inputs as a person typed them: the blueprint's schema decides between text and JSON.  They win over `inputs`."""
    not_before: Moment | None = None
    labels: dict[str, str] = {}
    parent: str | None = None
    """The order that makes this one; set by agents."""


class Packet(Wire, omit_defaults=True):
    """A released order on its way to an agent."""

    order: Name
    attempt: int
    """Which attempt the claim starts."""
    start: Start
    """How the order gets to its agent; direct: this message only carries the lease that the agent renews."""
    blueprint: Name
    digest: Digest
    inputs: dict[str, Any] = {}
    sources: dict[str, str] = {}
    element: Name | None = None
    pool: PoolName | None = None
    jobs: tuple[Job, ...] = ()
    """What earlier attempts have done."""
    children: dict[Name, Child] = {}
    labels: dict[str, str] = {}
    depth: int = 0
    ending: CleanUp | None = None
    """Run only this clean-up; then the order ends as it says."""

    @property
    def rev(self) -> int:
        """What a claim is compared with; 0, older than any offer, for a direct start."""
        return self.start.rev if isinstance(self.start, Offered) else 0

    @property
    def cancelled(self) -> bool:
        """Whether only `always` is to be run."""
        return self.ending is not None and self.ending.state is OrderState.CANCELLED

    @property
    def failing(self) -> str:
        """Why the order fails of which only `on_failure` and `always` are to be run; empty otherwise."""
        return self.ending.reason if self.ending is not None and self.ending.state is OrderState.FAILED else ""


ASSIGNMENT_POLL: Final = 30.0
"""Seconds after which an agent reads its assignments again, should it have missed a change."""


class Assignment(Wire, omit_defaults=True):
    """What the broker tells an agent about one of its elements."""

    element: Name
    kind: str
    takes_work: bool
    """False while it is drained or in workflow mode."""
    slots: int = 1
    pools: tuple[PoolName, ...] = ()
    params: dict[str, Any] = {}
    """Its own and its profiles' params, resolved."""
    sources: dict[str, str] = {}
    """Where each param came from: `element` or `profile:NAME`."""
    labels: dict[str, str] = {}
    mode: Mode = Mode.WORK_ORDER
    lease: float = 0.0
    """Seconds for which the agent may run an order that it could not renew; 0: what its consumers grant."""


class JoinRequest(Wire, omit_defaults=True):
    """An agent takes up an element: `muster.agent.<element>.join`."""

    element: str
    agent: Name
    """Id of the daemon, new at each start."""
    place: str = ""
    """Host and state folder: a daemon that starts again in its place takes over at once; only one can run there."""
    protocol: int = 1
    version: str = ""
    """Of the daemon, as in `mesh/version.py`."""


class Welcome(Wire):
    """What an agent is answered that took up an element."""

    assignment: Assignment
    time: float
    """The broker's, in seconds since 1970: what the agent reckons by."""


class ResumeRequest(Wire, omit_defaults=True):
    """An agent whose claim was refused asks what to do: `muster.agent.<element>.resume`."""

    order: Name
    attempt: Annotated[int, msgspec.Meta(ge=0)]
    """The one that its message was for, or that it had: only that can be given up."""
    element: Name
    agent: Name
    declined: bool = False
    """Whether it ran nothing of the attempt."""


class ResumeReply(Wire):
    """What an agent is to do with the message of an order that it may not claim."""

    drop: bool
    """Always: if the order is still to be run, a fresh message tells so."""


class Control(Wire, omit_defaults=True):
    """A message on `muster.control.<element>`."""

    cancel: Name
    """The order to stop."""


class Presence(Wire, omit_defaults=True):
    """A heartbeat on `muster.presence.<element>`."""

    agent: Name
    leaving: bool = False
    at: float = 0.0
    """The agent's own clock, in seconds: a broker that gives it work says by it how late it has heard of the agent."""
    time: float = 0.0
    """What its host takes the time for, in seconds since 1970."""
    protocol: int = 1
    version: str = ""
    """Of the daemon, as in `mesh/version.py`."""
    is_unconfined: bool = False
    """Whether tasks run as root there, without isolation."""
