"""The seam between a kind of task and the agent that runs it.

A kind is a class found by its entry point in the group `muster.tasks`.  It checks the task when the
blueprint is applied, and runs it on an agent.  It **returns** how it went; exceptions are for bugs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

import msgspec

from muster.blueprints.definition import Task
from muster.blueprints.reach import Reach
from muster.mesh.errors import Problem
from muster.mesh.model import Child, OrderRequest

OUTPUTS_LIMIT: Final = 256 * 1024
"""Bytes of one job's outputs as JSON: they travel in records, which many read."""


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """The task ended well."""

    outputs: dict[str, Any] = {}
    exit_code: int | None = None


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """The task ended badly; the retry policy decides whether it is tried again."""

    error: str
    outputs: dict[str, Any] = {}
    exit_code: int | None = None
    final: bool = False
    """True if another try cannot help (a bad URL, a missing script)."""


class Suspended(msgspec.Struct, frozen=True, kw_only=True):
    """The task waits and needs no slot meanwhile; it is called again with `memo`."""

    until: datetime | None = None
    children: bool = False
    """Continue when child orders have ended: those in `orders`, or all that this order made."""
    orders: tuple[str, ...] = ()
    """Child orders that it waits for: cancelled if `until` or the task's `timeout` comes before their end."""
    memo: dict[str, Any] = {}
    why: str = ""
    """What it waits for, if more is to be said than the time: `to ...`."""


Outcome = Done | Failed | Suspended


class Context(Protocol):
    """What an agent gives to a running task."""

    @property
    def order(self) -> str:
        """The order's id."""
        ...

    @property
    def job(self) -> str:
        """The task's name."""
        ...

    @property
    def element(self) -> str:
        """For which element it runs."""
        ...

    @property
    def attempt(self) -> int:
        """Which try of this task it is, from 1."""
        ...

    @property
    def inputs(self) -> Mapping[str, Any]:
        """The order's inputs, resolved and valid."""
        ...

    @property
    def values(self) -> Mapping[str, Any]:
        """What templates and conditions may read: `inputs`, `tasks`, `element`, `order`."""
        ...

    @property
    def environment(self) -> Mapping[str, str]:
        """What of the agent's own environment is for programs of tasks."""
        ...

    @property
    def owner(self) -> tuple[int, int] | None:
        """User and group that programs run as, and whose the folder is; None: the agent's own."""
        ...

    @property
    def reach(self) -> Reach:
        """Where the agent itself may connect to for tasks."""
        ...

    @property
    def memo(self) -> Mapping[str, Any] | None:
        """What the task said when it suspended; None at its first call."""
        ...

    @property
    def children(self) -> Mapping[str, Child]:
        """The order's child orders as far as the broker has reported them, by id."""
        ...

    @property
    def now(self) -> datetime:
        """The time, UTC."""
        ...

    def folder(self) -> Path:
        """A private working folder, made at the first call and removed when the order ends."""
        ...

    async def write(self, data: bytes) -> None:
        """Add to the job's output; waits while the output stream is behind."""
        ...

    async def run_process(self, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> int:
        """Run a program in a process group of its own, its output going to the job's; the exit code.

        `env` is the whole environment.  Negative: the signal that ended it.  Cancelled (timeout,
        cancel, lost lease): SIGTERM to the group, grace period, SIGKILL, and the cancellation continues.

        Raises:
            OSError: it cannot be started.
        """
        ...

    async def create_orders(self, request: OrderRequest, *, key: str) -> list[str]:
        """Make child orders; the same `key` in the same order makes them only once.

        Raises:
            RefusedError, InvalidError, TooLargeError: the mesh said no.
        """
        ...


@runtime_checkable
class Kind(Protocol):
    """A kind of task."""

    def check(self, task: Task, path: str) -> Iterable[Problem]:
        """Reports what is wrong with the task's own fields, when its blueprint is applied; `path` is the task's."""
        ...

    async def run(self, task: Task, context: Context) -> Outcome:
        """Do it; `task` has its templates filled in (`with_`, `files`)."""
        ...
