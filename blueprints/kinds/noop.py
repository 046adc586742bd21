"""`uses: noop`: does nothing, at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from muster.blueprints.definition import Task
from muster.blueprints.kinds.fields import Fields, check_fields
from muster.blueprints.task import Context, Done, Outcome
from muster.mesh.errors import Problem


class NoopFields(Fields):
    """What `with:` may say."""

    outputs: dict[str, Any] = {}
    """Becomes the job's outputs."""


class Noop:
    """Ends well; `with.outputs` becomes its outputs."""

    def check(self, task: Task, path: str) -> Iterable[Problem]:
        """Unknown fields."""
        return check_fields(NoopFields, task, path)

    async def run(self, task: Task, _context: Context) -> Outcome:
        """Say so."""
        outputs = task.with_.get("outputs", {})
        return Done(outputs=outputs if isinstance(outputs, dict) else {})
