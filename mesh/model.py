"""The structs that all processes share: orders, jobs, elements, and the packets between processes.

All are frozen and refuse unknown fields, because they cross process boundaries.  Times are UTC.  The time of a record
is JetStream's, and that of a job is its agent's.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from muster.mesh.structs import Digest, Moment, Name, PoolName, Wire
from muster.mesh.waiting import Waiting


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
