"""Who asked: on the record, and whose keys repeat which request."""

from __future__ import annotations

import msgspec
import pytest

from muster.broker.main import Broker
from muster.mesh import records
from muster.mesh.caller import Caller, CallerKind
from muster.mesh.errors import RefusedError
from muster.mesh.model import OrderRequest

REQUEST = OrderRequest(blueprint="nothing", on="e1")
ANNA, BOB = Caller(name="anna", door="http"), Caller(name="bob", door="nats")
AGENT = Caller(kind=CallerKind.AGENT, name="e1", door="nats")


async def test_the_same_key_of_two_callers_makes_two_requests(broker: Broker) -> None:
    create = broker.commands.orders.create
    (annas,) = await create(REQUEST, by=ANNA, key="k")
    (bobs,) = await create(REQUEST, by=BOB, key="k")
    (nobodys,) = await create(REQUEST, by=Caller(door="http"), key="k")
    assert len({annas.id, bobs.id, nobodys.id}) == 3
    (again,) = await create(REQUEST, by=msgspec.structs.replace(ANNA, door="nats"), key="k")
    assert (again.id, again.created_by) == (annas.id, "anna")


async def test_a_key_repeats_only_its_own_callers_cancel(broker: Broker) -> None:
    (order,) = await broker.commands.orders.create(REQUEST, by=ANNA)
    cancelled = await broker.commands.orders.cancel(order.id, by=ANNA, key="k")
    assert cancelled.reason == "cancelled by anna"
    assert (await broker.commands.orders.cancel(order.id, by=ANNA, key="k")).id == order.id
    with pytest.raises(RefusedError):
        await broker.commands.orders.cancel(order.id, by=BOB, key="k")


async def test_the_history_says_who_caused_each_record(broker: Broker) -> None:
    (order,) = await broker.commands.orders.create(REQUEST, by=ANNA)
    assert (await broker.log.append(records.Joined(element="e1", agent="a1"))).refused is None
    await broker.commands.orders.cancel(order.id, by=BOB)
    history = await broker.query.history(await broker.query.order(order.id))
    assert [(it["type"], it["caller"]) for it in history] == [
        ("created", {"name": "anna", "door": "http"}),
        ("cancel_requested", {"name": "bob", "door": "nats"}),
    ]
    assert [it["data"]["by"] for it in history] == ["anna", "bob"]


async def test_an_order_cannot_use_another_orders_keys_for_its_children(broker: Broker) -> None:
    parents = [(await broker.commands.orders.create(REQUEST, by=ANNA))[0] for _ in "ab"]
    for parent in parents:
        claim = records.Claimed(order=parent.id, attempt=1, element="e1", agent="a1")
        await broker.publisher.send(records.subject(claim, "e1"), records.encode(claim))
    made = []
    for parent in parents:
        child = msgspec.structs.replace(REQUEST, parent=parent.id)
        (order,) = await broker.commands.orders.create_children(child, by=AGENT, key="k")
        (again,) = await broker.commands.orders.create_children(child, by=AGENT, key="k")
        assert (order.id, order.parent, order.created_by) == (again.id, parent.id, "agent e1")
        made.append(order.id)
    assert len(set(made)) == len(parents)
