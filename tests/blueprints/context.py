"""A small agent for one task: real processes, real folders, no NATS."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from muster.blueprints.definition import Blueprint, Task
from muster.blueprints.expressions import Condition, render
from muster.blueprints.kinds import task_kinds
from muster.blueprints.manifest import load
from muster.blueprints.reach import Reach
from muster.blueprints.resolve import resolve, validate
from muster.blueprints.task import Done, Failed, Outcome
from muster.mesh.environment import passed
from muster.mesh.errors import MusterError
from muster.mesh.model import Child, OrderRequest


class FakeContext:
    """What a task may ask of its agent."""

    def __init__(self, folder: Path, **given: Any) -> None:
        self.order = "order1"
        self.job: str = given.get("job", "job")
        self.element = "web01"
        self.attempt: int = given.get("attempt", 1)
        self.inputs: Mapping[str, Any] = given.get("inputs", {})
        self.values: dict[str, Any] = {"inputs": self.inputs, "tasks": {}, "element": {}, "order": {"id": self.order}}
        self.environment = passed(os.environ)
        self.owner: tuple[int, int] | None = None
        self.reach: Reach = given.get("reach", Reach())
        self.memo: Mapping[str, Any] | None = given.get("memo")
        self.children: Mapping[str, Child] = given.get("children", {})
        self.now: datetime = given.get("now", datetime(2026, 1, 1, tzinfo=UTC))
        self.refuses: MusterError | None = given.get("refuses")
        self.made: dict[str, list[str]] = {}
        self.requests: list[OrderRequest] = []
        self.output = b""
        self._folder = folder

    def folder(self) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder

    async def write(self, data: bytes) -> None:
        self.output += data

    async def run_process(self, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> int:
        process = await asyncio.create_subprocess_exec(
            *argv,
            env=dict(env),
            cwd=cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(20):
                self.output += await process.stdout.read()
                return await process.wait()
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()

    async def create_orders(self, request: OrderRequest, *, key: str) -> list[str]:
        if self.refuses is not None:
            raise self.refuses
        self.requests.append(request)
        count = request.count or 1
        return self.made.setdefault(key, [f"{key}-{place}" for place in range(count)])


class Catalog:
    """Objects by kind and name."""

    def __init__(self, text: str = "") -> None:
        self._objects = {(one.kind, one.name): one.manifest for one in load(text)} if text else {}

    def get(self, kind: str, name: str) -> Any:
        return self._objects.get((kind, name))

    def all(self, kind: str) -> Any:
        return [found for (its_kind, _), found in self._objects.items() if its_kind == kind]


async def run_task(task: Task, folder: Path, **given: Any) -> tuple[Outcome, FakeContext]:
    """One try of one task."""
    context = FakeContext(folder, **given)
    outcome = await task_kinds()[task.uses].run(task, context)
    return outcome, context


async def run_blueprint(blueprint: Blueprint, folder: Path, **inputs: Any) -> tuple[dict[str, Outcome], FakeContext]:
    """Its `tasks`, one after another, until one fails; retries are not tried."""
    resolved = resolve(blueprint, inputs, {}, {})
    assert validate(blueprint, resolved.inputs) == []
    context = FakeContext(folder, inputs=resolved.inputs)
    outcomes: dict[str, Outcome] = {}
    for task in blueprint.tasks:
        if task.when is not None and not Condition(task.when).holds(context.values):
            continue
        context.job = task.name
        filled = Task(
            name=task.name,
            uses=task.uses,
            run=task.run,
            file=task.file,
            files=render(task.files, context.values),
            with_=render(task.with_, context.values),
        )
        outcome = outcomes[task.name] = await task_kinds()[task.uses].run(filled, context)
        if isinstance(outcome, Done | Failed):
            context.values["tasks"][task.name] = {"outputs": outcome.outputs, "exit_code": outcome.exit_code}
        if isinstance(outcome, Failed):
            break
    return outcomes, context
