"""`debounce` on a mesh: what is pending is on the record, survives its broker, and is to be seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from muster.mesh.firing import FiringState
from tests.broker.api.conftest import BLUEPRINT, Mesh, running
from tests.broker.api.ringing import fire, order, trigger
from tests.kit import record
from tests.kit.bell import bell
from tests.kit.servers import Nats
from tests.kit.waiting import eventually

__all__ = ["bell"]

pytestmark = pytest.mark.usefixtures("bell")

BURST: dict[str, Any] = {
    "debounce": "300ms",
    "key": "event.body.ref",
    "inputs": {"who": "{{ event.body.n }} of {{ event.body.ref }}"},
}


async def listed(mesh: Mesh) -> list[dict[str, Any]]:
    """Its firings, the first one first."""
    page = (await mesh.http.get("/api/v1/triggers/t/firings")).json()
    return list(reversed(page["items"]))


async def over(mesh: Mesh, count: int = 1) -> list[dict[str, Any]]:
    """Its firings once as many have made orders."""

    async def done() -> list[dict[str, Any]] | None:
        found = await listed(mesh)
        return found if sum(each["state"] == "fired" for each in found) == count else None

    return await eventually(done) or []


async def test_the_last_of_a_burst_makes_the_order_of_its_key(own_mesh: Mesh) -> None:
    await own_mesh.apply(trigger(**BURST))
    sent = [(1, "main"), (2, "dev"), (3, "main"), (4, "main")]
    replies = [await fire(own_mesh, key=str(n), event={"body": {"n": str(n), "ref": ref}}) for n, ref in sent]
    assert {(reply.state, reply.orders) for reply in replies} == {(FiringState.PENDING, ())}
    reported = (await own_mesh.http.get("/api/v1/triggers/t")).json()["pending"]
    assert {(each["group"], each["firing"]) for each in reported} <= {
        ("dev", replies[1].firing),
        ("main", replies[3].firing),
    }
    found = await over(own_mesh, 2)
    assert [each["state"] for each in found] == ["superseded", "fired", "superseded", "fired"]
    assert [each.get("superseded_by") for each in found] == [replies[2].firing, None, replies[3].firing, None]
    assert [each["event"]["body"]["n"] for each in found] == ["1", "2", "3", "4"]
    made = [await order(own_mesh, each["orders"][0]) for each in found if each["state"] == "fired"]
    assert [each["inputs"]["who"] for each in made] == ["2 of dev", "4 of main"]
    assert [each["group"] for each in made] == ["dev", "main"]
    assert (await own_mesh.http.get("/api/v1/triggers/t")).json()["pending"] == []
    again = await fire(own_mesh, key="3", event={"body": {"n": "3", "ref": "main"}}, try_again=True)
    assert (again.duplicate, again.state) == (True, FiringState.SUPERSEDED)
    history = (await own_mesh.http.get(f"/api/v1/orders/{made[0]['id']}/explain")).json()["history"]
    assert [each["type"] for each in history][:2] == ["fired", "fired"]


async def test_an_event_that_cannot_become_orders_is_rejected_at_once(own_mesh: Mesh) -> None:
    await own_mesh.apply(trigger(**BURST))
    reply = await fire(own_mesh, event={"body": {"ref": "main"}})
    assert (reply.state, "event.body.n" in reply.reason) == (FiringState.REJECTED, True)


async def test_what_waits_is_planned_by_what_holds_when_its_burst_is_over(own_mesh: Mesh) -> None:
    await own_mesh.apply({"kind": "machine", "name": "db1"}, trigger(debounce="300ms", target={"on": "db1"}))
    await fire(own_mesh, key="1")
    await own_mesh.apply(trigger(debounce="300ms", target={"on": "web01"}))
    (firing,) = await over(own_mesh)
    assert (firing["version"], (await order(own_mesh, firing["orders"][0]))["element"]) == (2, "web01")


async def test_what_is_pending_survives_its_broker_and_the_tables(fresh_nats: Nats, tmp_path: Path) -> None:
    projection = tmp_path / "projection.sqlite"
    machine, waiting = {"kind": "machine", "name": "web01"}, trigger(**{**BURST, "debounce": "3s"})
    async with running(fresh_nats, tmp_path) as first:
        await first.apply(BLUEPRINT, machine, waiting)
        for number in range(3):
            await fire(first, key=str(number), event={"body": {"n": str(number), "ref": "main", "x": 1e5}})
        await first.http.get("/api/v1/orders")  # so that it is in the tables
    async with running(fresh_nats, tmp_path) as second:
        found = await over(second)
        assert [each["state"] for each in found] == ["superseded", "superseded", "fired"]
    before = record.rows(projection)
    record.remove(projection)
    async with running(fresh_nats, tmp_path) as third:
        await third.http.get("/api/v1/orders")
    assert not record.difference(before, record.rows(projection))
