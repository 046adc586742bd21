"""A blueprint made ready to run: times parsed, templates found, conditions compiled at first use."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import nats.errors
from nats.aio.client import Client
from nats.js.errors import APIError, KeyNotFoundError

from muster.blueprints.definition import Blueprint, Task, decode_blueprint, duration
from muster.blueprints.templates import has_template
from muster.mesh import names
from muster.mesh.errors import MALFORMED, NotFoundError, UnavailableError

if TYPE_CHECKING:
    from muster.blueprints.expressions import Condition
    from muster.blueprints.task import Kind

KEPT: Final = 256
"""How many blueprint versions stay in memory."""


class Step:
    """One task, ready to run."""

    __slots__ = ("_condition", "_kind", "has_templates", "name", "task", "timeout")

    def __init__(self, task: Task) -> None:
        self.task = task
        self.name = task.name
        self.timeout = _seconds(task.timeout)
        self.has_templates = any(map(has_template, (task.with_, task.files, task.env)))
        self._condition: Condition | None = None
        self._kind: Kind | None = None

    @property
    def kind(self) -> Kind:
        """The plug-in that runs it.

        Raises:
            NotFoundError: this agent does not have it.
        """
        if self._kind is None:
            from muster.blueprints.kinds import task_kinds

            try:
                self._kind = task_kinds()[self.task.uses]
            except KeyError:
                raise NotFoundError(
                    f"this agent has no kind of task {self.task.uses!r}; is its plug-in there?"
                ) from None
        return self._kind

    @property
    def condition(self) -> Condition:
        """Its `when`, compiled (only asked for where there is one)."""
        if self._condition is None:
            from muster.blueprints.expressions import Condition

            self._condition = Condition(self.task.when or "true")
        return self._condition


class Plan:
    """One blueprint version, ready to run."""

    __slots__ = ("always", "blueprint", "on_failure", "steps", "timeout")

    def __init__(self, blueprint: Blueprint) -> None:
        self.blueprint = blueprint
        self.steps = tuple(Step(task) for task in blueprint.tasks)
        self.on_failure = tuple(Step(task) for task in blueprint.on_failure)
        self.always = tuple(Step(task) for task in blueprint.always)
        self.timeout = _seconds(blueprint.timeout)


class Shelf:
    """The blueprint versions that were run lately, by digest."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._plans: OrderedDict[str, Plan] = OrderedDict()

    def get(self, digest: str) -> Plan | None:
        """The plan, if it is here already."""
        plan = self._plans.get(digest)
        if plan is not None:
            self._plans.move_to_end(digest)
        return plan

    async def fetch(self, digest: str) -> Plan:
        """The plan, from the bucket if it is not here yet.

        Raises:
            NotFoundError: the mesh does not have this version, or not as a blueprint.
            UnavailableError: it cannot be had just now.
        """
        if (plan := self.get(digest)) is not None:
            return plan
        try:
            bucket = await self._client.jetstream(timeout=5).key_value(names.BLUEPRINT_BUCKET)
            entry = await bucket.get(digest)
        except KeyNotFoundError:
            raise NotFoundError(f"blueprint version {digest} is not in the mesh any more") from None
        except (nats.errors.Error, APIError, TimeoutError, OSError) as error:
            raise UnavailableError(f"blueprint version {digest} cannot be fetched just now: {error!r}") from error
        plan = self._plans[digest] = _read(digest, entry.value or b"")
        while len(self._plans) > KEPT:
            self._plans.popitem(last=False)
        return plan


def _read(digest: str, data: bytes) -> Plan:
    try:
        plan = Plan(decode_blueprint(data))
    except (*MALFORMED, ValueError) as error:
        raise NotFoundError(f"blueprint version {digest} cannot be read: {error}") from None
    for step in (*plan.steps, *plan.on_failure, *plan.always):
        if not names.is_name(step.name):  # a task's name is part of a subject
            raise NotFoundError(f"blueprint version {digest} cannot be read: {step.name[:80]!r} is not a name")
    return plan


def _seconds(text: str | None) -> float | None:
    return None if text is None else duration(text).total_seconds()
