"""Triggers as a broker defines them, for the stand-ins of this folder.  `test_contract.py` ties them to a real one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from muster.mesh.firing import Definition
from muster.triggers.definitions import Trigger, understood

FIRST = datetime(2026, 1, 1, tzinfo=UTC)


def definition(
    name: str,
    provider: str,
    with_: dict[str, Any],
    *,
    changed: datetime = FIRST,
    begun: datetime | None = None,
    **more: Any,
) -> Definition:
    """Returns what a broker puts into the bucket: a schedule counts from `begun`, or from the last change."""
    return Definition(
        name=name,
        provider=provider,
        changed_at=changed,
        begun_at=begun or changed,
        active_at=begun or changed,
        with_=with_,
        **{"version": 1, **more},
    )


def trigger(name: str, provider: str, with_: dict[str, Any], **fields: Any) -> Trigger:
    """Returns a trigger whose settings are valid, as a trigger service has it."""
    found = understood(definition(name, provider, with_, **fields))
    assert found.settings is not None, found.trouble
    return found
