"""What the state machine decides about elements, pools and other objects, record by record."""

from __future__ import annotations

from typing import Any

import pytest

from muster.broker.state.changes import Changes
from muster.mesh import records
from muster.mesh.caller import Caller
from tests.broker.test_firing_state import Book
from tests.kit.manifests import applied

POOL = {"kind": "pool", "name": "pool", "where": 'element.name == "a"'}


class Mesh(Book):
    """Machines a, b and c, and what people do with them."""

    def apply(self, *manifests: dict[str, Any]) -> Changes:
        return self.write(applied(manifests))

    def machine(self, **fields: Any) -> Changes:
        return self.apply({"kind": "machine", "name": "a", **fields})

    def delete(self, kind: str, name: str) -> Changes:
        return self.write(records.Deleted(id="x", object_kind=kind, name=name, by=Caller(name="test")))

    def create(self, order: str, **fields: Any) -> Changes:
        return self.write(
            records.Created(order=order, blueprint="b", version=1, digest="d", by=Caller(name="test"), **fields)
        )

    def drain(self, *, drained: bool) -> Changes:
        return self.write(records.DrainChanged(element="a", drained=drained, by=Caller(name="test")))

    def mode(self, mode: str) -> Changes:
        return self.write(records.ModeChanged(element="a", mode=mode, by=Caller(name="test")))


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


def test_orders_of_a_pool_go_when_a_members_manifest_lets_it_work_again(mesh: Mesh) -> None:
    mesh.apply(POOL)
    mesh.machine(mode="workflow")
    mesh.create("one", pool="pool")
    mesh.create("two", element="a")
    assert mesh.states() == {"one": "mode", "two": "mode"}
    mesh.machine(mode="work_order")
    assert mesh.states() == {"one": "offered", "two": "offered"}


def test_the_reason_to_wait_follows_the_element(mesh: Mesh) -> None:
    mesh.mode("workflow")
    mesh.create("one", element="a")
    assert mesh.states() == {"one": "mode"}
    mesh.drain(drained=True)
    assert mesh.states() == {"one": "drained"}
    mesh.mode("work_order")
    assert mesh.states() == {"one": "drained"}
    mesh.drain(drained=False)
    assert mesh.states() == {"one": "offered"}


def test_true_is_another_value_than_one(mesh: Mesh) -> None:
    mesh.machine(params={"tls": 1, "port": 1})
    assert mesh.machine(params={"port": 1, "tls": 1}).things == {}
    mesh.machine(params={"port": 1, "tls": True})
    assert mesh.state.fleet.params("a")[0]["tls"] is True


def test_a_pool_is_not_deleted_while_a_member_runs_one_of_its_orders(mesh: Mesh) -> None:
    mesh.apply(POOL)
    mesh.create("one", pool="pool")
    mesh.write(records.Claimed(order="one", attempt=1, element="a", agent="x"), "a")
    assert "1 open orders" in str(mesh.delete("pool", "pool").refused)
    mesh.write(records.Lost(order="one", attempt=1, reason="test"))
    assert mesh.states() == {"one": "offered"}


def test_the_agent_of_a_deleted_element_is_reported_though_a_pool_has_its_name(mesh: Mesh) -> None:
    mesh.apply({**POOL, "name": "b"})
    assert mesh.delete("machine", "b").assignments == {"b"}
    assert mesh.delete("pool", "b").assignments == {"a"}


def test_what_waits_for_a_pool_learns_that_its_last_member_was_deleted(mesh: Mesh) -> None:
    mesh.apply(POOL)
    mesh.drain(drained=True)
    mesh.create("one", pool="pool")
    assert mesh.states() == {"one": "drained"}
    mesh.delete("machine", "a")
    assert mesh.states() == {"one": "no matching element"}


def test_a_firing_that_was_under_way_when_its_trigger_was_disabled_makes_nothing(mesh: Mesh) -> None:
    mesh.trigger()
    mesh.trigger(enabled=False)
    firing = mesh.fire("one").firings["one"]
    assert (firing.orders, firing.reason) == ((), "trigger t was disabled just now")
