"""One attempt at one order: what is known of it while it has a slot here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import IntEnum
from pathlib import Path
from typing import Any

from msgspec.json import encode
from msgspec.structs import replace

from muster.agent.output import Output
from muster.agent.plan import Plan
from muster.agent.workshop import Workshop
from muster.mesh.messages import Assignment, Packet
from muster.mesh.model import Job, JobState


class Why(IntEnum):
    """Why an attempt must stop before its end; the higher one counts."""

    NOT = 0
    ENDING = 1
    """It has failed with an earlier attempt: only its clean-up still runs."""
    TIMEOUT = 2
    """The order's own timeout has passed: it fails."""
    CANCELLED = 3
    """It was cancelled: only `always` still runs."""
    STOPPED = 4
    """This agent ends: the tasks are killed, and the order runs again elsewhere."""
    LOST = 5
    """The lease is gone: the tasks are killed, and nothing is reported, for somebody else may run it."""


class Interrupted(Exception):  # noqa: N818 - not an error
    """The attempt stops here; `Attempt.why` is the reason."""


class Attempt:
    """All of it.  Changed only by the order's own task, except by `interrupt`."""

    __slots__ = (
        "_values",
        "assignment",
        "cgroup",
        "changed_at",
        "folder",
        "hurry",
        "isolation",
        "jobs",
        "kept",
        "lose",
        "outputs",
        "packet",
        "plan",
        "report",
        "shop",
        "task",
        "unreported",
        "why",
        "yields_to",
    )

    def __init__(self, shop: Workshop, packet: Packet, assignment: Assignment, lose: Callable[[], None]) -> None:
        self.shop = shop
        self.packet = packet
        self.assignment = assignment
        self.lose = lose
        """To be called when somebody else may run the order, or it must be run again."""
        self.plan: Plan
        """Known once it is claimed."""
        self.task: asyncio.Task[None] | None = None
        self.why = Why.NOT
        self.yields_to: Why | None = None
        """The weakest reason that may cut off what is being awaited just now; None: nothing may."""
        self.hurry: asyncio.Timeout | None = None
        """The timeout of cleaning up: none as long as there is no reason to stop."""
        self.jobs: dict[str, Job] = {job.name: job for job in packet.jobs}
        self.kept = {job.name: len(encode(job.outputs)) for job in packet.jobs if job.outputs}
        """Bytes of JSON that the outputs of each job are."""
        self.unreported: dict[str, Job] = {}
        """Jobs as they are now, where the log does not know that yet."""
        self.changed_at = 0.0
        """Since when (loop time) there is something to report; 0: nothing."""
        self.report: asyncio.Future[Any] | None = None
        """A report under way."""
        self.outputs: list[Output] = []
        self.folder: Path | None = None
        self.isolation = shop.isolation
        """How its programs run, once its blueprint is known."""
        self.cgroup: Path | None = None
        """The control group that they run in, from the first one on."""
        self._values: dict[str, Any] | None = None

    def claimed(self, packet: Packet, plan: Plan) -> None:
        """It is ours; a pool's order has got inputs by its claim."""
        self.packet, self.plan = packet, plan

    @property
    def is_ours(self) -> bool:
        """Whether this attempt may still report."""
        return self.why < Why.STOPPED

    def interrupt(self, why: Why) -> None:
        """Stops what is being done, for this reason, unless a stronger one is known already."""
        if why <= self.why:
            return
        self.why = why
        if self.yields_to is not None and why >= self.yields_to and self.task is not None:
            self.task.cancel()
        elif self.hurry is not None and self.hurry.when() is None:
            self.hurry.reschedule(self._hurried())

    def grace(self) -> float:
        """Seconds for a task to end by itself; none if another agent is about to run the order."""
        return 0.0 if self.why is Why.LOST else self.shop.settings.kill_grace.total_seconds()

    def yielding(self, to: Why) -> Yielding:
        """`with attempt.yielding(to=…):` reasons from `to` on cut off the body, and it raises `Interrupted`."""
        return Yielding(self, to)

    @asynccontextmanager
    async def hurrying(self) -> AsyncIterator[None]:
        """Once there is a reason to stop, the body has the time for cleaning up.

        Raises:
            TimeoutError: that time has passed.
        """
        async with asyncio.timeout_at(self._hurried() if self.why else None) as limit:
            self.hurry = limit
            try:
                yield
            finally:
                self.hurry = None

    def _hurried(self) -> float:
        return asyncio.get_running_loop().time() + self.shop.settings.cleanup.total_seconds()

    def check(self, to: Why) -> None:
        """Stops here if there is such a reason already.

        Raises:
            Interrupted: there is.
        """
        if self.why >= to:
            raise Interrupted

    def note(self, job: Job) -> None:
        """A job has changed."""
        self.jobs[job.name] = self.unreported[job.name] = job
        if not self.changed_at:
            self.changed_at = asyncio.get_running_loop().time()
        if self._values is not None:
            self._values["tasks"][job.name] = _view(job)

    def end_job(self, job: Job, state: JobState, **changes: Any) -> None:
        """A job has ended, in `state`."""
        self.note(replace(job, state=state, finished_at=self.shop.clock.now(), memo=None, **changes))

    @property
    def values(self) -> dict[str, Any]:
        """What templates and conditions may read."""
        if self._values is None:
            packet, assignment = self.packet, self.assignment
            self._values = {
                "inputs": packet.inputs,
                "tasks": {job.name: _view(job) for job in self.jobs.values()},
                "element": {
                    "name": assignment.element,
                    "kind": assignment.kind,
                    "labels": assignment.labels,
                    "params": assignment.params,
                    "mode": str(assignment.mode),
                },
                "order": {
                    "id": packet.order,
                    "blueprint": packet.blueprint,
                    "attempt": packet.attempt,
                    "labels": packet.labels,
                    "pool": packet.pool or "",
                    "element": assignment.element,
                },
            }
        return self._values

    def collected(self) -> dict[str, Any]:
        """The order's outputs: those of its jobs, a later one's over an earlier one's."""
        outputs: dict[str, Any] = {}
        for job in self.jobs.values():
            if job.outputs:
                outputs.update(job.outputs)
        return outputs


class Yielding:
    """A part of an attempt that may be cut off.  Cancellation for any other cause passes through."""

    __slots__ = ("_attempt", "_to")

    def __init__(self, attempt: Attempt, to: Why) -> None:
        self._attempt = attempt
        self._to = to

    def __enter__(self) -> None:
        self._attempt.check(self._to)
        self._attempt.yields_to = self._to

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._attempt.yields_to = None
        if isinstance(error, asyncio.CancelledError) and self._attempt.why >= self._to:
            if (task := asyncio.current_task()) is not None:
                task.uncancel()
            raise Interrupted from None


def _view(job: Job) -> dict[str, Any]:
    return {"state": str(job.state), "outputs": job.outputs, "exit_code": job.exit_code, "error": job.error or ""}
