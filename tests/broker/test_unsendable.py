"""An order whose message no server takes ends, and keeps no other order from being offered."""

from __future__ import annotations

from typing import Any

from muster.broker.main import Broker
from muster.mesh import records
from muster.mesh.caller import Caller
from muster.mesh.model import Order, OrderRequest, OrderState
from tests.kit.waiting import eventually


async def write(broker: Broker, *written: records.Record) -> None:
    """What the agent on e1 reports."""
    for record in written:
        await broker.publisher.send(records.subject(record, "e1"), records.encode(record))


async def running(broker: Broker, parent: str | None = None) -> str:
    """An order that e1 runs."""
    request = OrderRequest(blueprint="nothing", on="e1", parent=parent)
    (order,) = await broker.commands.orders.create(request, by=Caller(name="test"))
    await write(broker, records.Claimed(order=order.id, attempt=1, element="e1", agent="a1"))
    return order.id


async def test_an_order_that_fits_in_no_message_fails_and_the_next_is_offered(broker: Broker) -> None:
    parent = await running(broker)
    large = {"text": "x" * 3_000_000}
    for _ in range(3):
        child = await running(broker, parent)
        done = records.Done(order=child, attempt=1, state=OrderState.FINISHED, outputs=large)
        await write(broker, done)
    await write(broker, records.Suspended(order=parent, attempt=1, jobs=(), children=True))

    async def ended() -> Any:
        found = await broker.query.order(parent)
        return found if found.is_final else None

    order: Order = await eventually(ended, what="the parent's end")
    assert order.state is OrderState.FAILED
    assert "more than a message may have" in order.reason
    (after,) = await broker.commands.orders.create(OrderRequest(blueprint="nothing", on="e1"), by=Caller(name="test"))
    await write(broker, records.Claimed(order=after.id, attempt=1, element="e1", agent="a1"))
    await eventually(lambda: broker.state.orders[after.id].state is OrderState.RUNNING)
