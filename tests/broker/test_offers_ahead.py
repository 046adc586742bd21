"""On an idle mesh an offer is published together with its record: a claim of it must still prove the record."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from muster.broker.main import Broker
from muster.mesh import names, records
from muster.mesh.firing import FireRequest
from muster.mesh.jetstream import LostRaceError, compare_and_set, post
from muster.mesh.model import OrderRequest, Packet
from tests.kit.waiting import deadline, eventually


async def calm(broker: Broker) -> None:
    """Until the log has not moved for a while."""
    await eventually(lambda: broker.log.rests, what="the log rests")


async def copies(broker: Broker, least: int = 1) -> list[Packet]:
    """Every copy of an offer in the work stream, oldest first, once there are so many."""
    stream = broker.client.jetstream()
    async with deadline(10, f"{least} copies are stored"):
        while (state := (await stream.stream_info(names.WORK_STREAM)).state).messages < least:
            continue
    found = [await stream.get_msg(names.WORK_STREAM, seq) for seq in range(state.first_seq, state.last_seq + 1)]
    return [msgspec.json.decode(message.data or b"", type=Packet) for message in found]


async def claim(broker: Broker, packet: Packet) -> None:
    """What an agent does with a copy."""
    record = records.Claimed(order=packet.order, attempt=packet.attempt, element="e1", agent="a1")
    only_if = compare_and_set(names.log_of("order", packet.order), packet.rev)
    await broker.publisher.send(records.subject(record, "e1"), records.encode(record), only_if)


def created(order: str) -> records.Created:
    """The record of an order for e1."""
    return records.Created(order=order, blueprint="nothing", version=1, digest="d", element="e1", by="test")


async def test_an_order_alone_is_offered_once_for_the_sequence_that_it_has(broker: Broker) -> None:
    await calm(broker)
    (order,) = await broker.commands.create_orders(OrderRequest(blueprint="nothing", on="e1"), by="test")
    (packet,) = await copies(broker)
    assert (packet.order, packet.rev) == (order.id, order.rev)
    await claim(broker, packet)


async def test_a_firing_alone_is_offered_once_and_proved_by_the_claim(broker: Broker) -> None:
    await calm(broker)
    reply = await broker.commands.fire(FireRequest(trigger="bell", event={}, key="once"))
    (packet,) = await copies(broker)
    assert ((packet.order,), packet.rev) == (reply.orders, broker.state.seq)
    await claim(broker, packet)
    again = await broker.commands.fire(FireRequest(trigger="bell", event={}, key="once"))
    assert (again.duplicate, again.orders) == (True, reply.orders)


async def test_an_offer_whose_record_came_second_is_refused_and_made_again(broker: Broker) -> None:
    await calm(broker)
    record = created("late")
    broker.log.on_alone = None
    broker.offers.run_ahead(record)
    post(broker.client, "muster.log.objects.noise.broker", b"not a record")
    await broker.log.append(record)
    early, right = await copies(broker, 2)
    assert early.rev + 1 == right.rev
    with pytest.raises(LostRaceError):
        await claim(broker, early)
    await claim(broker, right)


async def test_an_order_for_a_busy_element_is_not_offered_before_its_record(broker: Broker) -> None:
    await broker.commands.create_orders(OrderRequest(blueprint="nothing", on="e1"), by="test")
    await copies(broker)
    await calm(broker)
    record = created("next")
    broker.log.on_alone = None
    broker.offers.run_ahead(record)
    post(broker.client, "muster.log.objects.noise.broker", b"not a record")  # as the end of what runs there
    await broker.log.append(record)
    _, only = await copies(broker, 2)
    assert only.rev == broker.state.seq


async def test_an_offer_whose_record_never_came_cannot_be_claimed(broker: Broker) -> None:
    await calm(broker)
    broker.offers.run_ahead(created("never"))
    (packet,) = await copies(broker)
    with pytest.raises(LostRaceError):
        await claim(broker, packet)


async def test_many_orders_at_once_are_each_offered_once(broker: Broker) -> None:
    await calm(broker)
    request = OrderRequest(blueprint="nothing", on="e1")
    made = await asyncio.gather(*(broker.commands.create_orders(request, by="test") for _ in range(50)))
    revs = {order.id: order.rev for orders in made for order in orders}
    offered = [(packet.order, packet.rev) for packet in await copies(broker, len(revs))]
    assert len(offered) == len(revs)
    assert dict(offered) == revs
