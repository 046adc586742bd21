"""`kind: mesh`: the settings that every process of a mesh shares.  They are on the log, as one object."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Final, Literal

import msgspec

from muster.blueprints.definition import duration, size
from muster.blueprints.objects.base import Catalog, Manifest, ObjectKind
from muster.mesh.errors import Problem
from muster.mesh.structs import Wire

NAME: Final = "mesh"
"""The name of the one object of this kind."""

SHORTEST_LEASE: Final = timedelta(seconds=1)
LONGEST_LEASE: Final = timedelta(days=1)

SHORTEST_AGE: Final = timedelta(minutes=1)
LONGEST_AGE: Final = timedelta(days=36_500)

SMALLEST_OUTPUT: Final = 1024 * 1024
"""Bytes of task output that a mesh must keep, at least."""


class Kept(Wire):
    """How long something is kept: until it is older than `age`, or there are more than `count`."""

    age: str | None = None
    count: Annotated[int, msgspec.Meta(ge=1)] | None = None


class KeptByAge(Wire):
    """How long something is kept that only age removes."""

    age: str


class KeptOutput(Wire):
    """How much task output is kept: the oldest goes first."""

    age: str = "7d"
    size: str = "8GB"


class Retention(Wire):
    """How long the mesh keeps what it no longer needs itself."""

    orders: Kept | None = None
    """Orders that ended; None keeps them for ever.  The log keeps their records."""
    failed: KeptByAge | None = None
    """Orders that failed; None keeps them as long as the others."""
    events: KeptByAge = KeptByAge(age="7d")
    output: KeptOutput = KeptOutput()


class Mesh(Manifest):
    """The settings of a mesh."""

    kind: Literal["mesh"] = "mesh"
    lease: str = "30s"
    """How long an agent may be silent before its orders go to somebody else."""
    replicas: Annotated[int, msgspec.Meta(ge=1, le=5)] = 1
    """Copies of each stream, on as many NATS servers."""
    retention: Retention = Retention()


def check(manifest: Mesh, catalog: Catalog) -> Iterator[Problem]:
    """Reports a second object of the kind, and spans and sizes that are malformed or out of range."""
    del catalog
    if manifest.name != NAME:
        yield Problem(path="name", message=f"the settings of a mesh are one object, named {NAME!r}")
    yield from _check_span("lease", manifest.lease, SHORTEST_LEASE, LONGEST_LEASE)
    kept = manifest.retention
    for what, rule in (
        ("orders", kept.orders),
        ("failed", kept.failed),
        ("events", kept.events),
        ("output", kept.output),
    ):
        if rule is not None and rule.age is not None:
            yield from _check_span(f"retention.{what}.age", rule.age, SHORTEST_AGE, LONGEST_AGE)
    try:
        if size(kept.output.size) < SMALLEST_OUTPUT:
            yield Problem(path="retention.output.size", message=f"{kept.output.size} is less than 1MB")
    except ValueError as error:
        yield Problem(path="retention.output.size", message=str(error))


def _check_span(path: str, text: str, shortest: timedelta, longest: timedelta) -> Iterator[Problem]:
    try:
        span = duration(text)
    except ValueError as error:
        yield Problem(path=path, message=str(error))
        return
    if not shortest <= span <= longest:
        message = f"{text} is not between {shortest.total_seconds():g} s and {longest.days} days"
        yield Problem(path=path, message=message)


MESH = ObjectKind(kind="mesh", manifest=Mesh, check=check, is_settings=True)
