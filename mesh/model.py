"""The structs that all processes share: orders, jobs, elements, and the packets between processes.

All are frozen and refuse unknown fields, because they cross process boundaries.  Times are UTC.  The time of a record
is JetStream's, and that of a job is its agent's.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final, dataclass_transform

import msgspec

from muster.mesh import names


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class FrozenMeta(msgspec.StructMeta):
    """Makes every subclass frozen and keyword-only, visibly for type checkers."""

    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any) -> FrozenMeta:
        """Creates a struct type; msgspec inherits `frozen`, but not `kw_only`."""
        options.setdefault("kw_only", True)
        return super().__new__(cls, name, bases, namespace, **options)


class Wire(msgspec.Struct, metaclass=FrozenMeta, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all structs that cross process boundaries."""


Name = Annotated[str, msgspec.Meta(pattern=names.NAME_PATTERN)]
"""A name or an id that becomes part of a subject, a header, a key or a folder."""

PoolName = Annotated[str, msgspec.Meta(pattern=names.POOL_PATTERN)]
Digest = Annotated[str, msgspec.Meta(pattern=names.DIGEST_PATTERN)]


class OrderState(StrEnum):
    """The states of an order; `broker/state/table.py` has the transitions."""

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
    """The states of a job."""

    RUNNING = "running"
    SUSPENDED = "suspended"
    FINISHED = "finished"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


FINAL_JOB_STATES = frozenset({JobState.FINISHED, JobState.FAILED, JobState.SKIPPED, JobState.CANCELLED})


class Mode(StrEnum):
    """The mode of an element."""

    WORKFLOW = "workflow"
    WORK_ORDER = "work_order"


class Job(Wire):
    """One task's run inside an order."""

    name: Name
    """The task's name, unique in its blueprint."""
    state: JobState
    attempt: int = 1
    """The number of this try; a retry and a lost agent each add one."""
    tries: int = 1
    """The tries that `retry` has counted, without those of lost attempts."""
    exit_code: int | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    outputs: dict[str, Any] = {}
    error: str | None = None
    """The reason of a failure, as text."""
    idempotent: bool = True
    """Whether it can run again after a lost attempt."""
    memo: dict[str, Any] | None = None
    """The data that a suspended task receives when it continues."""
    deadline: datetime | None = None
    """The deadline of this try, including time in `suspended`; None if its task has no `timeout`."""


class Child(Wire):
    """The data that an order has about one of its child orders."""

    state: OrderState
    reason: str = ""
    outputs: dict[str, Any] = {}


class Loss(Wire):
    """A lost attempt."""

    attempt: int
    element: Name
    at: datetime
    reason: str


class Runner(Wire):
    """The element that has run an order from an attempt on."""

    attempt: int
    element: Name


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


class CancelHow(StrEnum):
    """How to stop an order."""

    GENTLE = "gentle"
    FORCE = "force"
    KILL = "kill"


class Cancel(Wire, tag_field="by_way_of", tag="cancel", omit_defaults=True):
    """A request to cancel the order."""

    by: str
    how: CancelHow = CancelHow.GENTLE


class CleanUp(Wire, tag_field="by_way_of", tag="clean_up"):
    """The order has ended except for its clean-up."""

    state: OrderState
    """`failed`: `on_failure` and `always` must still run; `cancelled`: only `always`."""
    reason: str
    since: datetime


Ending = Cancel | CleanUp
"""How an order will end."""


class Offered(Wire, tag_field="by", tag="offer"):
    """The order is published to the work stream, and claimed by compare-and-set."""

    rev: int
    """The last log sequence on the order's subjects; a claim that finds another one loses."""


class Direct(Wire, tag_field="by", tag="record", omit_defaults=True):
    """The order starts with its first record, which names the agent that runs it."""

    agent: Name
    beat: float = 0.0
    """The time of that agent's latest heartbeat, by its own clock."""


Start = Offered | Direct
"""How an order reaches its agent."""


class Order(Wire):
    """One run of a blueprint, for one element or for a pool."""

    id: Name
    blueprint: str
    version: int
    """The blueprint version that it was created from; later changes do not affect it."""
    digest: Digest
    """The content address with which agents fetch that version."""
    state: OrderState
    created_by: str
    created_at: datetime
    subject: Name | None = None
    """The element that it is about; None until a member of the pool claims it."""
    runner: Name | None = None
    """The element whose agent runs it or will run it; None until a member of the pool claims it."""
    element: Name | None = None
    """The element that lists show: the subject or, without one, the runner."""
    pool: PoolName | None = None
    reason: str = ""
    """Why it waits, as one word, or why it ended."""
    waiting: Waiting | None = None
    """Why it waits."""
    ending: Ending | None = None
    """How it will end."""
    start: Direct | None = None
    """Its direct start; None if it was or will be offered."""
    inputs: dict[str, Any] = {}
    sources: dict[str, str] = {}
    """The source of each input: `order`, `element`, `profile:NAME`, `blueprint` …"""
    outputs: dict[str, Any] = {}
    attempt: int = 0
    """The number of its claims; reports of an older attempt are refused."""
    restarts: int = 0
    """How many times it was started anew: after a lost agent, or by a retry.  A claim after a suspension is neither."""
    agent: Name | None = None
    """The agent that claimed it last."""
    runners: tuple[Runner, ...] = ()
    """The elements that have run it, each with its first attempt."""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    not_before: datetime | None = None
    """The earliest start that was requested."""
    has_on_failure: bool = False
    has_always: bool = False
    """Whether its blueprint has `on_failure` and `always`."""
    cleans_up: bool = False
    """Whether tasks can have run and the clean-up has not; then it must run before the order ends."""
    lost_in_row: int = 0
    """The number of lost attempts in a row since a job ended; too many end the order."""
    losses: tuple[Loss, ...] = ()
    """The last ten lost attempts, oldest first."""
    labels: dict[str, str] = {}
    jobs: tuple[Job, ...] = ()
    parent: Name | None = None
    depth: int = 0
    """The number of its ancestors."""
    children: dict[Name, Child] = {}
    trigger: Name | None = None
    """The trigger that created it."""
    firing: Name | None = None
    """The firing that created it."""
    group: str | None = None
    """The value of its trigger's `key`; `max_open` counts orders with the same value together."""
    chain: int = 0
    """The number of firings that led to it, each of which caused the next."""
    where: str | None = None
    """The filter that defines its pool, if the pool has no name."""
    rev: int = 0
    """The log sequence of its last record, which a claim is compared with; 0 if it has only its firing's record."""

    @property
    def is_final(self) -> bool:
        """Returns whether it has ended."""
        return self.state in FINAL_STATES

    @property
    def clean_up(self) -> CleanUp | None:
        """Returns the clean-up, if only that must still run."""
        return self.ending if isinstance(self.ending, CleanUp) else None

    def runner_of(self, attempt: int) -> str | None:
        """Returns the element that an attempt ran on; None if there was no such attempt."""
        if attempt > self.attempt:
            return None
        return next((it.element for it in reversed(self.runners) if it.attempt <= attempt), None)


Moment = Annotated[datetime, msgspec.Meta(tz=True)]
"""A time with an offset; RFC 3339 §4.4 explains why others are refused."""


class OrderRequest(Wire, omit_defaults=True):
    """The request of `POST /api/v1/orders` and `muster.api.orders.create`."""

    blueprint: str
    on: str | None = None
    pool: str | None = None
    where: str | None = None
    """A CEL filter over `element`."""
    count: int | None = None
    all: bool = False
    queue: bool = False
    """The filter defines a pool: one order, which the first free matching element claims, now or later."""
    inputs: dict[str, Any] = {}
    texts: dict[str, str] = {}
    """Inputs as text from a person; the blueprint's schema decides between text and JSON.  They override `inputs`."""
    not_before: Moment | None = None
    labels: dict[str, str] = {}
    parent: str | None = None
    """The order that creates this one; set by agents."""


class Packet(Wire, omit_defaults=True):
    """A released order on its way to an agent."""

    order: Name
    attempt: int
    """The attempt that the claim starts."""
    start: Start
    """How the order reaches its agent; if direct, this message only carries the lease that the agent renews."""
    blueprint: Name
    digest: Digest
    inputs: dict[str, Any] = {}
    sources: dict[str, str] = {}
    element: Name | None = None
    pool: PoolName | None = None
    jobs: tuple[Job, ...] = ()
    """The jobs of earlier attempts."""
    children: dict[Name, Child] = {}
    labels: dict[str, str] = {}
    depth: int = 0
    ending: CleanUp | None = None
    """If set, only this clean-up runs, and then the order ends accordingly."""

    @property
    def rev(self) -> int:
        """Returns the sequence that a claim is compared with; 0, older than any offer, for a direct start."""
        return self.start.rev if isinstance(self.start, Offered) else 0

    @property
    def cancelled(self) -> bool:
        """Returns whether only `always` must run."""
        return self.ending is not None and self.ending.state is OrderState.CANCELLED

    @property
    def failing(self) -> str:
        """Returns why the order fails if only `on_failure` and `always` must run; empty otherwise."""
        return self.ending.reason if self.ending is not None and self.ending.state is OrderState.FAILED else ""


ASSIGNMENT_POLL: Final = 30.0
"""Seconds after which an agent reads its assignments again, in case it missed a change."""


class Assignment(Wire, omit_defaults=True):
    """The broker's instructions to an agent about one of its elements."""

    element: Name
    kind: str
    takes_work: bool
    """False while the element is drained or in workflow mode."""
    slots: int = 1
    pools: tuple[PoolName, ...] = ()
    params: dict[str, Any] = {}
    """The resolved params of the element and its profiles."""
    sources: dict[str, str] = {}
    """The source of each param: `element` or `profile:NAME`."""
    labels: dict[str, str] = {}
    mode: Mode = Mode.WORK_ORDER
    lease: float = 0.0
    """Seconds for which the agent can run an order without a renewal; 0: the time of its consumers."""


class JoinRequest(Wire, omit_defaults=True):
    """An agent joins for an element: the request of `muster.agent.<element>.join`."""

    element: str
    agent: Name
    """The id of the agent, new at each start."""
    place: str = ""
    """Host and state folder.  An agent that restarts in the same place takes over at once; only one can run there."""
    protocol: int = 1
    version: str = ""
    """The version and protocol of the agent, see `mesh/version.py`."""


class Welcome(Wire):
    """The answer to an agent that joined."""

    assignment: Assignment
    time: float
    """The broker's time in seconds since 1970, which the agent uses."""


class ResumeRequest(Wire, omit_defaults=True):
    """A request of an agent whose claim was refused: `muster.agent.<element>.resume`."""

    order: Name
    attempt: Annotated[int, msgspec.Meta(ge=0)]
    """The attempt of its message, or the attempt that it ran; only this one can be dropped."""
    element: Name
    agent: Name
    declined: bool = False
    """Whether nothing of the attempt ran."""


class ResumeReply(Wire):
    """What an agent must do with the message of an order that it cannot claim."""

    drop: bool
    """Always drop: an order that must still run has a fresh message."""


class Control(Wire, omit_defaults=True):
    """A message on `muster.control.<element>`."""

    cancel: Name
    """The order that must stop."""


class Presence(Wire, omit_defaults=True):
    """A heartbeat on `muster.presence.<element>`."""

    agent: Name
    leaving: bool = False
    at: float = 0.0
    """The agent's own clock in seconds; a direct start refers to it."""
    time: float = 0.0
    """The time of its host in seconds since 1970."""
    protocol: int = 1
    version: str = ""
    """The version and protocol of the agent, see `mesh/version.py`."""
    is_unconfined: bool = False
    """Whether its tasks run as root without isolation."""
