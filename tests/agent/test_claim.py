"""Whose an order becomes, and with what inputs."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from muster.agent.hosting import welcomed
from muster.agent.settings import AgentSettings
from muster.mesh import names, records
from muster.mesh.errors import NotFoundError, RefusedError
from muster.mesh.messages import Assignment, Welcome
from muster.mesh.model import Offered, OrderState
from tests.agent.broker_stand_in import StandIn
from tests.agent.conftest import running_agent
from tests.kit.waiting import eventually

NOOP = [{"name": "a", "uses": "noop"}]


@pytest.fixture
async def pool(broker: StandIn) -> None:
    """The pool `p`, and two elements with params of their own in it."""
    await broker.consumer(names.pool_consumer("p"), names.work_pool("p"))
    await broker.element("e1", pools=("p",), params={"ram": 32, "other": 1}, sources={"ram": "profile:big"})


@pytest.mark.usefixtures("pool", "agent")
async def test_a_claimers_params_are_inputs_where_the_order_gave_none(broker: StandIn) -> None:
    blueprint = {"inputs": {"ram": {"type": "integer", "default": 1}, "who": {"default": "me"}}, "tasks": NOOP}
    order = await broker.order(
        blueprint, pool="p", inputs={"ram": 1, "who": "you"}, sources={"ram": "blueprint", "who": "order"}
    )
    await broker.done(order)
    claimed = await broker.first(order, records.Claimed)
    assert claimed.inputs == {"ram": 32, "who": "you"}
    assert claimed.sources == {"ram": "profile:big", "who": "order"}


@pytest.mark.usefixtures("pool", "agent")
async def test_what_the_order_gave_is_stronger_than_a_param(broker: StandIn) -> None:
    blueprint = {"inputs": {"ram": {"type": "integer"}}, "tasks": NOOP}
    order = await broker.order(blueprint, pool="p", inputs={"ram": 5}, sources={"ram": "order"})
    await broker.done(order)
    assert (await broker.first(order, records.Claimed)).inputs is None


@pytest.mark.usefixtures("pool", "agent")
async def test_an_order_whose_inputs_do_not_fit_its_claimer_fails_in_words(broker: StandIn) -> None:
    blueprint = {"inputs": {"ram": {"type": "integer", "maximum": 16}}, "tasks": NOOP}
    order = await broker.order(blueprint, pool="p")
    done = await broker.done(order)
    assert done.state is OrderState.FAILED
    assert "inputs.ram" in done.reason


async def test_of_two_members_exactly_one_claims(broker: StandIn, agent_settings: AgentSettings) -> None:
    await broker.consumer(names.pool_consumer("p"), names.work_pool("p"))
    for element in ("e1", "e2"):
        await broker.element(element, slots=2, pools=("p",))
    async with running_agent(agent_settings), running_agent(agent_settings, elements=("e2",)):
        orders = [await broker.order(NOOP, pool="p") for _ in range(30)]
        for order in orders:
            await broker.done(order)
        assert all(len(broker.of(order, records.Claimed)) == 1 for order in orders)
        await broker.settled()


async def test_an_older_copy_of_a_running_order_is_dropped(broker: StandIn, agent: asyncio.Event) -> None:
    blueprint = await broker.blueprint({"tasks": [{"name": "a", "run": "sleep 0.5"}]})
    packet = await broker.create(blueprint, element="e1")
    await broker.offer(packet)
    await broker.first(packet.order, records.Claimed)
    stale = msgspec.structs.replace(packet, start=Offered(rev=packet.rev - 1))
    await broker.js.publish(names.work_element("e1"), msgspec.json.encode(stale))
    assert (await broker.done(packet.order)).state is OrderState.FINISHED
    await broker.settled()
    assert not broker.resumes


async def test_an_attempt_that_was_given_up_elsewhere_stops(broker: StandIn, agent: asyncio.Event) -> None:
    order = await broker.order([{"name": "a", "run": "sleep 300"}])
    await broker.first(order, records.Claimed)
    lost = records.Lost(order=order, attempt=1, reason="test")
    ack = await broker.js.publish(records.subject(lost), records.encode(lost))
    packet = msgspec.structs.replace(broker.packets[order], attempt=2, start=Offered(rev=ack.seq))
    other = await broker.blueprint({"tasks": NOOP})
    await broker.offer(msgspec.structs.replace(packet, digest=other.digest(), order=order, labels={"x": "y"}))
    await broker.js.publish(
        names.work_element("e1"), msgspec.json.encode(msgspec.structs.replace(packet, digest=other.digest()))
    )
    done = await broker.done(order)
    assert done.attempt == 2
    assert not [record for record in broker.of(order, records.Done) if record.attempt == 1]


async def test_child_orders_are_made_with_a_key_and_their_parent(broker: StandIn, agent: asyncio.Event) -> None:
    order = await broker.order([{"name": "a", "uses": "order", "with": {"blueprint": "other", "on": "e9"}}])
    await eventually(lambda: broker.requests)
    body, headers = broker.requests[0]
    assert body["parent"] == order
    assert headers["Nats-Msg-Id"].startswith(f"{order}.")
    suspended = await broker.first(order, records.Suspended)
    assert suspended.children


async def test_a_refused_child_order_fails_the_task_in_words(broker: StandIn, agent: asyncio.Event) -> None:
    def refuse(_: dict[str, Any]) -> None:
        raise NotFoundError("no such blueprint")

    broker.on_create = refuse
    order = await broker.order([{"name": "a", "uses": "order", "with": {"blueprint": "other", "on": "e9"}}])
    done = await broker.done(order)
    assert done.state is OrderState.FAILED
    assert "no such blueprint" in done.reason


@pytest.mark.usefixtures("agent")
async def test_the_assignment_of_another_element_is_refused_wherever_it_is_written(broker: StandIn) -> None:
    foreign = Assignment(element="e2", kind="machine", takes_work=False, params={"from": "e2"})
    bucket = await broker.js.key_value(names.ASSIGNMENT_BUCKET)
    with capture_logs() as logs:
        await bucket.put(names.key("e1"), msgspec.json.encode(foreign))
        await eventually(lambda: [line for line in logs if line["event"] == "assignment.of_another"])
    order = await broker.order({"tasks": NOOP}, element="e1")
    await broker.done(order)


def test_a_broker_that_answers_for_another_element_is_refused() -> None:
    given = Assignment(element="e2", kind="machine", takes_work=True)
    answer = msgspec.json.encode(Welcome(assignment=given, time=0.0))
    with pytest.raises(RefusedError, match="for the element 'e2', not for 'e1'"):
        welcomed(answer, "e1")
