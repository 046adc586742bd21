"""Pools as the state machine groups them: no filter that is on the log ends a broker."""

from __future__ import annotations

import pytest

from tests.broker.test_fleet_state import Mesh

LONG = "[1,2,3,4,5,6,7,8,9,10].all(a, " * 5 + "1 == 1" + ")" * 5


@pytest.mark.parametrize("where", [LONG, "'a'.replace('a', 'aa') == 'aa'", "element.nope"])
def test_a_pool_whose_filter_cannot_be_worked_out_has_no_members(where: str) -> None:
    mesh = Mesh()
    members = mesh.state.pools.members
    mesh.apply({"kind": "pool", "name": "web", "where": "true"})
    assert members["web"] == {"a", "b", "c"}
    mesh.apply({"kind": "pool", "name": "web", "where": where})
    assert members["web"] == set()
    mesh.machine(labels={"changed": "yes"})
    assert members["web"] == set()
    mesh.create("one", pool="queue:x", where=where)
    assert members["queue:x"] == set()
    assert mesh.states() == {"one": "no matching element"}
