"""Foreign records on the subject of an order: nobody knows its id ahead, and nothing waits for them."""

from __future__ import annotations

from muster.broker import ids
from muster.broker.ids import Ids
from muster.mesh import names
from muster.mesh.firing import FireRequest, FiringState
from tests.broker.api.conftest import Mesh
from tests.kit.blueprints import trigger

EVENT = {"provider": "test", "kind": "test", "id": "1", "time": "2026-01-01T00:00:00Z", "headers": {}, "body": {}}


async def squat(mesh: Mesh, order: str) -> None:
    """Writes to the log on the subject of an order."""
    await mesh.nats.jetstream().publish(names.log("order", order, "web03"), b"{}")


async def test_a_firing_is_made_though_something_else_stands_where_it_would(own_mesh: Mesh) -> None:
    await own_mesh.apply(trigger("t", "interval", "hello", with_={"every": "1h"}, target={"on": "web01"}))
    mine = own_mesh.broker.ids
    await squat(own_mesh, names.order_of(mine.firing("t", "due"), 0))
    reply = await own_mesh.broker.commands.firings.fire(FireRequest(trigger="t", event=EVENT, key="due"))
    assert (reply.state, reply.firing, len(reply.orders)) == (FiringState.FIRED, mine.firing("t", "due", 1), 1)
    again = await own_mesh.broker.commands.firings.fire(FireRequest(trigger="t", event=EVENT, key="due"))
    assert (again.duplicate, again.orders) == (True, reply.orders)


async def test_a_request_whose_key_is_taken_is_refused_and_not_held_up(own_mesh: Mesh) -> None:
    await squat(own_mesh, own_mesh.broker.ids.order("key", 0))
    headers = {"Idempotency-Key": "key"}
    answer = await own_mesh.http.post("/api/v1/orders", json={"blueprint": "hello", "on": "web01"}, headers=headers)
    assert answer.status_code == 409
    assert "use another key" in answer.json()["detail"]


async def test_all_brokers_of_a_mesh_make_the_same_ids_and_those_of_others_do_not(own_mesh: Mesh) -> None:
    again = await ids.load(own_mesh.nats.jetstream())
    assert again.firing("t", "due") == own_mesh.broker.ids.firing("t", "due")
    assert Ids(b"another").firing("t", "due") != again.firing("t", "due")
    assert len({again.firing("t", "k"), again.firing("t", "k", 1), again.order("k", 0), again.announced("t", "k")}) == 4
    assert names.is_name(again.order("any key\n\ud800", 3))
