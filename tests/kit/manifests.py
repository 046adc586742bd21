"""Manifests as a broker puts them on the log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from muster.blueprints.facts import facts_of
from muster.mesh import records
from muster.mesh.caller import Caller


def applied(manifests: Sequence[dict[str, Any]]) -> records.Applied:
    """Returns the record that applies manifests."""
    return records.Applied(id="applied", manifests=tuple(manifests), facts=facts_of(manifests), by=Caller(name="test"))
