"""Where a record that the state machine refused becomes an error."""

from __future__ import annotations

from muster.broker.state.changes import Changes
from muster.mesh.errors import RefusedError


def accepted(changes: Changes, what: str = "") -> Changes:
    """Returns what a record changed.

    Args:
        changes: what `apply` made of it.
        what: the thing that the record is about, if its reason does not name it.

    Raises:
        RefusedError: the record changed nothing.
    """
    if changes.refused is not None:
        raise RefusedError(f"{what}: {changes.refused.reason}" if what else changes.refused.reason)
    return changes
