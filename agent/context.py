"""What a running task may ask of its agent: the `Context` of muster.blueprints.task."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import nats.errors

from muster.agent.attempt import Attempt
from muster.agent.isolation import working_folder
from muster.agent.output import Output, Place
from muster.agent.workshop import HEADERS
from muster.blueprints.reach import Reach
from muster.mesh import names
from muster.mesh.errors import RefusedError, TooLargeError, from_problem
from muster.mesh.jetstream import MSG_ID
from muster.mesh.model import Child, Job, OrderRequest, OrderState

RETRY_DELAY = 1.0
"""Seconds between two tries to reach the broker."""

CREATE_TIMEOUT = 10.0
"""Seconds to wait for a broker to have made child orders."""


class TaskContext:
    """One try of one task."""

    __slots__ = ("_attempt", "_job", "_output")

    def __init__(self, attempt: Attempt, job: Job) -> None:
        self._attempt = attempt
        self._job = job
        self._output: Output | None = None

    @property
    def order(self) -> str:
        """The order's id."""
        return self._attempt.packet.order

    @property
    def job(self) -> str:
        """The task's name."""
        return self._job.name

    @property
    def element(self) -> str:
        """For which element it runs."""
        return self._attempt.assignment.element

    @property
    def attempt(self) -> int:
        """Which try of this task it is, from 1."""
        return self._job.attempt

    @property
    def inputs(self) -> Mapping[str, Any]:
        """The order's inputs, resolved and valid."""
        return self._attempt.packet.inputs

    @property
    def values(self) -> Mapping[str, Any]:
        """What templates and conditions may read."""
        return self._attempt.values

    @property
    def environment(self) -> Mapping[str, str]:
        """What of the agent's own environment is for programs of tasks."""
        user = self._attempt.isolation.user
        return self._attempt.shop.environment if user is None else user.environment(self._attempt.shop.environment)

    @property
    def owner(self) -> tuple[int, int] | None:
        """User and group that programs run as, and whose the folder is; None: the agent's own."""
        user = self._attempt.isolation.user
        return None if user is None else user.owner

    @property
    def reach(self) -> Reach:
        """Where the agent itself may connect to for tasks."""
        return self._attempt.shop.reach

    @property
    def memo(self) -> Mapping[str, Any] | None:
        """What the task said when it suspended; None at its first call."""
        return self._job.memo

    @property
    def children(self) -> Mapping[str, Child]:
        """The order's child orders as far as the broker has reported them, by id."""
        return self._attempt.packet.children

    @property
    def now(self) -> datetime:
        """The time, UTC, as the mesh has it."""
        return self._attempt.shop.clock.now()

    def folder(self) -> Path:
        """A private working folder, made at the first call and removed when the order ends."""
        if self._attempt.folder is None:
            shop, user = self._attempt.shop, self._attempt.isolation.user
            if user is not None:
                self._attempt.folder = working_folder(shop.agent, user)
            else:
                self._attempt.folder = Path(tempfile.mkdtemp(dir=shop.folder))
        return self._attempt.folder

    def _out(self) -> Output:
        if self._output is None:
            packet = self._attempt.packet
            others = self._attempt.outputs
            if others:
                others[-1].finish()
            self._output = Output(
                self._attempt.shop.outputs,
                Place(packet.order, self.element, self.job),
                claim=packet.attempt,
                attempt=self.attempt,
                behind=others[-1] if others else None,
            )
            others.append(self._output)
        return self._output

    async def write(self, data: bytes) -> None:
        """Adds to the job's output; waits while the output stream is behind."""
        await self._out().write(data)

    async def run_process(self, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> int:
        """Runs a program in a process group of its own, its output going to the job's; the exit code.

        Raises:
            OSError: it cannot be started.
        """
        from muster.agent.process import run_process
        from muster.agent.spawning import CutOffError, Program

        attempt = self._attempt
        user, wants_cgroup = attempt.isolation.user, attempt.isolation.cgroup
        if wants_cgroup and attempt.cgroup is None:
            attempt.cgroup = attempt.shop.cgroups.make(self.order, attempt.isolation)
        program = Program(
            argv=argv,
            env=env,
            cwd=cwd,
            is_local=cwd == attempt.folder,
            user=None if user is None else (user.number, user.group, user.groups),
            cgroup=None if attempt.cgroup is None else str(attempt.cgroup),
        )
        try:
            return await run_process(program, output=self._out(), spawner=attempt.shop.spawner, grace=attempt.grace)
        except CutOffError:
            attempt.lose()
            await asyncio.sleep(0)  # here it is cut off, as by a lost lease
            raise

    async def create_orders(self, request: OrderRequest, *, key: str) -> list[str]:
        """Makes child orders; the same `key` in the same order makes them only once.

        Asks until a broker answers: the task's timeout, or a cancel, ends it.

        Raises:
            RefusedError, InvalidError, TooLargeError: the mesh said no.
        """
        body = msgspec.json.encode(msgspec.structs.replace(request, parent=self.order))
        if len(body) > self._attempt.shop.client.max_payload - HEADERS:
            raise TooLargeError(f"a request of {len(body)} bytes for child orders is more than the NATS server takes")
        headers = {MSG_ID: f"{self.order}.{key}"}
        while True:
            with suppress(nats.errors.Error, TimeoutError):
                reply = await self._attempt.shop.client.request(
                    names.agent(self.element, "create"), body, timeout=CREATE_TIMEOUT, headers=headers
                )
                return _created(reply.data)
            await asyncio.sleep(RETRY_DELAY)

    @property
    def has_stopped_children(self) -> bool:
        """Whether a child order was stopped because this order's timeout for it had passed."""
        return any(child.reason == f"cancelled by order {self.order}" for child in self.children.values())

    def stopped(self, orders: Sequence[str]) -> None:
        """Child orders that were not through in time: the broker has stopped them, and another try makes others."""
        packet = self._attempt.packet
        children = {**packet.children, **dict.fromkeys(orders, Child(state=OrderState.CANCELLING))}
        self._attempt.packet = msgspec.structs.replace(packet, children=children)


def _created(data: bytes) -> list[str]:
    try:
        answer = msgspec.json.decode(data, type=dict[str, Any])
        if (problem := answer.get("error")) is not None:
            raise from_problem(problem)
        return [order["id"] for order in answer["orders"]]
    except (msgspec.MsgspecError, KeyError, TypeError) as error:
        raise RefusedError(f"the broker's answer is not a list of orders: {error}") from error


MOST_REMOVED_AT_ONCE = 32
"""Files of a folder that is removed in the loop; a larger one is removed in a thread, so that nothing waits for it."""


async def remove(folder: Path) -> None:
    """Removes a working folder."""
    if _is_removed(folder):
        return
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
    except OSError:  # the task has removed it itself, or put something else there
        found = []
    if len(found) <= MOST_REMOVED_AT_ONCE and not any(entry.is_dir(follow_symlinks=False) for entry in found):
        shutil.rmtree(folder, ignore_errors=True)
    else:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _is_removed(folder: Path) -> bool:
    """Removes it if it is empty, as nearly every one is."""
    try:
        folder.rmdir()
    except OSError:
        return False
    return True
