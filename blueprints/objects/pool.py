"""`kind: pool`: a filter over elements; its orders are claimed by whichever member is free."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from muster.blueprints.expressions import check_filter
from muster.blueprints.objects.base import Catalog, Manifest, ObjectKind
from muster.mesh.errors import Problem


class Pool(Manifest, kw_only=True):
    """A named filter."""

    kind: Literal["pool"] = "pool"
    where: str
    """Who belongs to it: a condition (CEL) over `element`."""


def check(manifest: Pool, _catalog: Catalog) -> Iterator[Problem]:
    """A filter that does not compile."""
    yield from check_filter(manifest.where, "where")


POOL = ObjectKind(kind="pool", manifest=Pool, check=check)
