"""Pools as the state machine groups them: no filter that is on the log ends a broker."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from muster.broker.state.element import Element, StoredObject
from muster.broker.state.fleet import Fleet

LONG = "[1,2,3,4,5,6,7,8,9,10].all(a, " * 5 + "1 == 1" + ")" * 5


@pytest.fixture
def fleet() -> Fleet:
    found = Fleet()
    found.elements["web01"] = Element(name="web01", kind="machine")
    put(found, {"kind": "machine", "name": "web01"})
    return found


def put(fleet: Fleet, manifest: dict[str, Any]) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    fleet.put(
        StoredObject(
            kind=manifest["kind"], name=manifest["name"], version=1, manifest=manifest, created_at=now, changed_at=now
        )
    )


@pytest.mark.parametrize("where", [LONG, "'a'.replace('a', 'aa') == 'aa'", "element.nope"])
def test_a_pool_whose_filter_cannot_be_worked_out_has_no_members(fleet: Fleet, where: str) -> None:
    put(fleet, {"kind": "pool", "name": "web", "where": "true"})
    assert fleet.members["web"] == {"web01"}
    put(fleet, {"kind": "pool", "name": "web", "where": where})
    assert fleet.members["web"] == set()
    assert fleet.regroup("web01") == set()
    fleet.use_queue("queue", where)
    assert fleet.members["queue"] == set()
