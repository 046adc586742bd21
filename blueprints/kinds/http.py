"""`uses: http`: one HTTP request.  httpx is imported with the first one."""

from __future__ import annotations

from collections.abc import Iterable

from muster.blueprints.definition import Task
from muster.blueprints.kinds.fields import Fields, check_fields
from muster.blueprints.task import Context, Failed, Outcome
from muster.mesh.errors import Problem


class HttpFields(Fields):
    """What `with:` may say."""

    url: str
    method: str = "GET"


class Http:
    """Asks a server."""

    def check(self, task: Task, path: str) -> Iterable[Problem]:
        """Unknown fields."""
        return check_fields(HttpFields, task, path)

    async def run(self, _task: Task, _context: Context) -> Outcome:
        """Not yet."""
        return Failed(error="not there yet", final=True)
