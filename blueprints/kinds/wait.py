"""`uses: wait`: continues after a while, or at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta

from muster.blueprints.definition import Task, duration, moment
from muster.blueprints.kinds.fields import Fields, check_fields, read_fields
from muster.blueprints.paths import join
from muster.blueprints.task import Context, Done, Failed, Outcome, Suspended
from muster.blueprints.templates import is_template
from muster.mesh.errors import Problem
from muster.mesh.moment import rfc3339

SHORT = timedelta(seconds=5)
"""Up to here the task keeps its slot; a longer wait gives it back."""


class WaitFields(Fields, rename={"for_": "for"}):
    """What `with:` may say: one of the two."""

    for_: str | None = None
    """A duration: `10m`."""
    until: str | None = None
    """A time: RFC 3339."""


class Wait:
    """Waits without holding a slot."""

    def check(self, task: Task, path: str) -> Iterator[Problem]:
        """Neither or both of `for` and `until`, and texts that are not a duration or time."""
        yield from check_fields(WaitFields, task, path)
        given = [name for name in ("for", "until") if name in task.with_]
        if len(given) != 1:
            yield Problem(path=join(path, "with"), message="say either `for: 10m` or `until: 2030-01-31T12:00:00Z`")
        for name in given:
            text = task.with_[name]
            if isinstance(text, str) and not is_template(text):
                try:
                    duration(text) if name == "for" else moment(text)
                except ValueError as error:
                    yield Problem(path=join(path, "with", name), message=str(error))

    async def run(self, task: Task, context: Context) -> Outcome:
        """Work out the end at the first call, and keep to it when called again."""
        until = _remembered(context)
        if until is None:
            fields = read_fields(WaitFields, task)
            if isinstance(fields, str):
                return Failed(error=fields, final=True)
            try:
                until = _end(fields, context.now)
            except (ValueError, OverflowError) as error:
                return Failed(error=str(error), final=True)
        left = until - context.now
        if left > SHORT:
            return Suspended(until=until, memo={"until": until.isoformat()})
        if left > timedelta(0):
            await asyncio.sleep(left.total_seconds())
        return Done(outputs={"until": rfc3339(until)})


def _end(fields: WaitFields, now: datetime) -> datetime:
    if fields.for_ is not None and fields.until is None:
        return now + duration(fields.for_)
    if fields.until is not None and fields.for_ is None:
        return moment(fields.until)
    raise ValueError("with: say either `for` or `until`")


def _remembered(context: Context) -> datetime | None:
    memo = context.memo
    return None if memo is None else datetime.fromisoformat(memo["until"])
