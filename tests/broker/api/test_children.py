"""Child orders over HTTP, with agents that only write what is needed."""

from __future__ import annotations

from typing import Any

from muster.mesh import records
from muster.mesh.model import OrderState
from tests.broker.api.conftest import Mesh
from tests.kit.waiting import eventually


async def end(mesh: Mesh, order: str, state: OrderState, **outputs: Any) -> None:
    """Run an order on web01, and wait until the broker knows of its end."""

    async def is_over() -> bool:
        return bool((await mesh.http.get(f"/api/v1/orders/{order}")).json()["state"] == state)

    for record in (
        records.Claimed(order=order, attempt=1, element="web01", agent="x"),
        records.Done(order=order, attempt=1, state=state, outputs=outputs),
    ):
        await mesh.nats.jetstream().publish(records.subject(record, "web01"), records.encode(record))
    await eventually(is_over)


async def test_a_retried_order_learns_how_its_children_ended_meanwhile(own_mesh: Mesh) -> None:
    parent = (await own_mesh.order())["id"]
    child = (await own_mesh.order(parent=parent))["id"]
    await end(own_mesh, parent, OrderState.FAILED)
    await end(own_mesh, child, OrderState.FINISHED, answer=42)
    assert (await own_mesh.http.post(f"/api/v1/orders/{parent}/retry")).status_code == 200
    known = own_mesh.broker.state.orders[parent].children[child]
    assert (known.state, known.outputs) == (OrderState.FINISHED, {"answer": 42})
