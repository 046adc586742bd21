"""`queue: true`: a filter is a pool as long as somebody needs it."""

from __future__ import annotations

from typing import Any

import pytest
from nats.js.errors import NotFoundError

from muster.mesh import names
from muster.mesh.firing import FireRequest
from tests.broker.api.conftest import Mesh
from tests.kit.bell import bell
from tests.kit.waiting import eventually

__all__ = ["bell"]

pytestmark = pytest.mark.usefixtures("bell")

WHERE = 'element.labels.role == "runner"'
POOL = names.queue_pool(WHERE)
RUNNER: dict[str, Any] = {"kind": "machine", "name": "runner1", "labels": {"role": "runner"}}
TRIGGER: dict[str, Any] = {
    "kind": "trigger",
    "name": "t",
    "provider": "bell",
    "blueprint": "hello",
    "target": {"where": WHERE, "queue": True},
}


async def has_consumer(mesh: Mesh) -> bool:
    try:
        await mesh.nats.jetstream().consumer_info(names.WORK_STREAM, names.pool_consumer(POOL))
    except NotFoundError:
        return False
    return True


async def has_none(mesh: Mesh) -> bool:
    return not await has_consumer(mesh)


async def order(mesh: Mesh, ident: str) -> dict[str, Any]:
    found: dict[str, Any] = (await mesh.http.get(f"/api/v1/orders/{ident}")).json()
    return found


async def pools(mesh: Mesh, name: str) -> list[str]:
    found: list[str] = (await mesh.http.get(f"/api/v1/machines/{name}")).json()["pools"]
    return found


async def test_an_order_waits_until_somebody_matches(own_mesh: Mesh) -> None:
    answer = await own_mesh.http.post("/api/v1/orders", json={"blueprint": "hello", "where": WHERE, "queue": True})
    (made,) = answer.json()["orders"]
    assert (made["state"], made["reason"], made["pool"], made["where"]) == (
        "queued",
        "no matching element",
        POOL,
        WHERE,
    )
    await own_mesh.apply(RUNNER)
    assert (await order(own_mesh, made["id"]))["state"] == "offered"
    assert await pools(own_mesh, "runner1") == [POOL]
    await eventually(lambda: has_consumer(own_mesh))
    await own_mesh.http.post(f"/api/v1/orders/{made['id']}/cancel")
    assert await pools(own_mesh, "runner1") == []
    await eventually(lambda: has_none(own_mesh))

    async def no_offers() -> bool:
        info = await own_mesh.nats.jetstream().stream_info(names.WORK_STREAM)
        return int(info.state.messages) == 0

    await eventually(no_offers)


async def test_a_trigger_keeps_its_queue_and_its_orders_outlive_it(own_mesh: Mesh) -> None:
    await own_mesh.apply(RUNNER, TRIGGER)
    await eventually(lambda: has_consumer(own_mesh))
    reply = await own_mesh.broker.commands.firings.fire(FireRequest(trigger="t", event={}))
    (ident,) = reply.orders
    await own_mesh.http.delete("/api/v1/triggers/t")
    assert await pools(own_mesh, "runner1") == [POOL]
    assert (await order(own_mesh, ident))["state"] == "offered"
    await own_mesh.http.post(f"/api/v1/orders/{ident}/cancel")
    assert await pools(own_mesh, "runner1") == []
    await eventually(lambda: has_none(own_mesh))


async def test_a_pool_without_a_name_cannot_be_asked_for_by_one(own_mesh: Mesh) -> None:
    await own_mesh.apply(TRIGGER)
    answer = await own_mesh.http.post("/api/v1/orders", json={"blueprint": "hello", "pool": POOL})
    assert answer.status_code == 404


@pytest.mark.parametrize(
    "wrong",
    [
        {"on": "web01", "queue": True},
        {"where": WHERE, "queue": True, "all": True},
        {"where": WHERE, "queue": True, "count": 2},
        {"where": "element.kidn", "queue": True},
    ],
)
async def test_a_queue_that_makes_no_sense_is_refused(own_mesh: Mesh, wrong: dict[str, Any]) -> None:
    answer = await own_mesh.http.post("/api/v1/orders", json={"blueprint": "hello", **wrong})
    assert answer.status_code in {400, 422}, answer.text
