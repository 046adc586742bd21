"""Orders that have ended while copies are in the work stream: nobody must run them."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from muster.mesh import names, records
from muster.mesh.firing import FireRequest
from muster.mesh.jetstream import LostRaceError, Publisher, compare_and_set
from muster.mesh.messages import Control
from muster.mesh.model import OrderState
from tests.broker.api.conftest import Mesh
from tests.kit.bell import bell
from tests.kit.waiting import deadline, eventually

__all__ = ["bell"]

pytestmark = pytest.mark.usefixtures("bell")

TRIGGER: dict[str, Any] = {
    "kind": "trigger",
    "name": "t",
    "provider": "bell",
    "blueprint": "hello",
    "target": {"on": "web01"},
    "max_open": 1,
    "on_overlap": "replace",
}


async def replaced(mesh: Mesh) -> tuple[str, int]:
    """An order whose copy was offered before another one took its place; and what its copy compares with."""
    await mesh.apply(TRIGGER)
    first = await mesh.broker.commands.firings.fire(FireRequest(trigger="t", event={}))
    rev = mesh.broker.state.orders[first.orders[0]].rev
    assert mesh.broker.state.orders[first.orders[0]].state is OrderState.OFFERED
    await mesh.broker.commands.firings.fire(FireRequest(trigger="t", event={}))
    return first.orders[0], rev


def claimed(order: str) -> records.Claimed:
    return records.Claimed(order=order, attempt=1, element="web01", agent="a1")


async def test_the_copy_of_a_replaced_order_cannot_be_claimed(own_mesh: Mesh) -> None:
    order, rev = await replaced(own_mesh)

    async def history() -> list[str]:
        items = (await own_mesh.http.get(f"/api/v1/orders/{order}/history")).json()["items"]
        return [each["type"] for each in items]

    async def is_notified() -> bool:
        return await history() == ["fired", "cancel_requested"]

    await eventually(is_notified)
    claim = claimed(order)
    async with Publisher(own_mesh.nats) as publisher:
        only_if = compare_and_set(names.log_of("order", order), rev)
        with pytest.raises(LostRaceError):
            await publisher.publish(records.subject(claim, "web01"), records.encode(claim), only_if)


async def test_who_claimed_an_ended_order_is_asked_to_stop(own_mesh: Mesh) -> None:
    """A claim that was stored meanwhile: its agent has JetStream's word for it, and runs the order."""
    made = await own_mesh.order()
    await own_mesh.http.post(f"/api/v1/orders/{made['id']}/cancel")
    heard: asyncio.Queue[Control] = asyncio.Queue()

    async def hear(message: Any) -> None:
        await heard.put(msgspec.json.decode(message.data, type=Control))

    await own_mesh.nats.subscribe(names.control("web01"), cb=hear)
    await own_mesh.nats.flush()
    claim = claimed(made["id"])
    async with Publisher(own_mesh.nats) as publisher:
        await publisher.publish(records.subject(claim, "web01"), records.encode(claim))
    async with deadline(5, "the word to stop"):
        assert (await heard.get()).cancel == made["id"]


async def test_a_leader_that_had_lapsed_looks_everywhere(own_mesh: Mesh) -> None:
    """A renewal may come so late that for a moment nobody led: what came then was offered by nobody."""
    looked = asyncio.Event()
    leader = own_mesh.broker.leader
    await eventually(lambda: leader.leads)
    leader.on_elected.append(looked.set)
    leader._until = 0.0
    async with deadline(5, "the leader to look"):
        await looked.wait()
    assert leader.leads


async def test_what_went_with_the_connection_is_read_after_the_reconnect(own_mesh: Mesh) -> None:
    """The server has sent it, and asks for no acknowledgement."""
    puller = own_mesh.broker.projector._follower._puller
    assert puller is not None
    arrived, went = puller._receive, asyncio.Event()
    puller._receive = lambda _: went.set()
    record = records.Announced(id=names.new_id(), name="heard", body=None)
    async with Publisher(own_mesh.nats) as publisher:
        ack = await publisher.publish(records.subject(record), records.encode(record))
    async with deadline(5, "the record to go astray"):
        await went.wait()
    puller._receive = arrived
    own_mesh.broker.projector.renew()
    await eventually(lambda: own_mesh.broker.state.seq == ack.seq)
