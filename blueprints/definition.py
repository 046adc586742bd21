"""A blueprint as it is decoded from a manifest: the same struct that brokers check and agents run."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec

from muster.blueprints.objects.base import Manifest
from muster.mesh.canonical import canonical
from muster.mesh.moment import in_utc
from muster.mesh.structs import Wire

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?")

_SIZE = re.compile(r"(\d{1,9})\s*(KB|MB|GB|)")
_UNITS = {"": 1, "KB": 1024, "MB": 1024**2, "GB": 1024**3}


def duration(text: str) -> timedelta:
    """`1h30m`, `90s`, `1.5s`, `250ms`, `2d` as a time span.

    Raises:
        ValueError: the text is not a duration, or is too long to count.
    """
    found = _DURATION.fullmatch(text.strip())
    if found is None or not any(found.groups()):
        raise ValueError(f"{text!r} is not a duration; write 90s, 5m, 1h30m, 250ms or 2d")
    days, hours, minutes, seconds, milliseconds = (float(part or 0) for part in found.groups())
    try:
        return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds, milliseconds=milliseconds)
    except OverflowError:
        raise ValueError(f"{text!r} is longer than {timedelta.max.days:,} days") from None


def size(text: str) -> int:
    """`512MB`, `2GB`, `64KB` in bytes.

    Raises:
        ValueError: it is something else.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is not a size; write 64MB or 2GB")
    return int(found[1]) * _UNITS[found[2]]


def moment(text: str) -> datetime:
    """An RFC 3339 time.

    Raises:
        ValueError: the text is none, or says no time zone.
    """
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"{text!r} is not a time; write 2030-01-31T12:00:00Z") from None
    if found.tzinfo is None:
        raise ValueError(f"{text!r} says no time zone; write 2030-01-31T12:00:00Z")
    return in_utc(found)


class Retry(Wire, omit_defaults=True):
    """How many times a failed task is retried, and after which delays."""

    attempts: int = 1
    """All tries together."""
    delay: str = "1s"
    """Before the second try."""
    backoff: float = 1.0
    """What the delay is multiplied with for each further try."""
    max_delay: str = "1h"


class Task(Wire, omit_defaults=True, rename={"with_": "with"}):
    """One thing to do."""

    name: str
    summary: str = ""
    uses: str = "script"
    """The kind of task: an entry point of `muster.tasks`."""
    run: str | None = None
    """A script's text (`uses: script`); bash unless it starts with `#!`."""
    file: str | None = None
    """Or the path of a script on the element's host."""
    env: dict[str, str] = {}
    cwd: str | None = None
    files: dict[str, str] = {}
    """Files to make in the working folder before the script runs: name to template (Jinja2)."""
    with_: dict[str, Any] = {}
    """The kind's own fields; text in them is a template (Jinja2)."""
    when: str | None = None
    """A condition (CEL over `inputs`, `tasks`, `element`, `order`); the task is skipped where it does not hold."""
    timeout: str | None = None
    retry: Retry | None = None
    idempotent: bool = True
    """Whether it may run again after its agent was lost in the middle."""


class Blueprint(Manifest, omit_defaults=True):
    """A named, versioned list of tasks with an input schema."""

    kind: Literal["blueprint"] = "blueprint"
    inputs: dict[str, dict[str, Any]] = {}
    """JSON Schema properties; an input without a `default` is required."""
    tasks: tuple[Task, ...] = ()
    on_failure: tuple[Task, ...] = ()
    """Run when a task failed, before `always`."""
    always: tuple[Task, ...] = ()
    """Run at the end, after success and failure alike."""
    timeout: str | None = None
    """For the whole order's run."""
    run_as: str | None = None
    """The user of the host that its programs run as."""
    isolation: Literal["none", "cgroup"] | None = None
    """`cgroup`: a control group for each order, killed whole at its end."""
    memory: str | None = None
    """The most that an order may use, as `512MB`; with a control group."""
    processes: int | None = None
    """How many it may have at a time; with a control group."""

    def every_task(self) -> Iterator[Task]:
        """All tasks of the three lists."""
        yield from self.tasks
        yield from self.on_failure
        yield from self.always

    def encoded(self) -> bytes:
        """The canonical bytes: what agents fetch, and what the digest is of."""
        return canonical(self)

    def digest(self) -> str:
        """The content address of this version."""
        return hashlib.sha256(self.encoded()).hexdigest()[:32]


def decode_blueprint(data: bytes) -> Blueprint:
    """A blueprint from its canonical bytes."""
    return msgspec.json.decode(data, type=Blueprint)
