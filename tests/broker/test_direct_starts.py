"""An order for an element with a free slot starts with its first record: what the agent gets must always be true."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from time import monotonic

import msgspec
import pytest
import pytest_asyncio
from nats.aio.msg import Msg

from muster.blueprints.manifest import load
from muster.broker.main import Broker
from muster.mesh import names, records
from muster.mesh.caller import Caller
from muster.mesh.firing import FireRequest
from muster.mesh.jetstream import LostRaceError, compare_and_set
from muster.mesh.messages import Packet, Presence, ResumeRequest
from muster.mesh.model import Direct, Order, OrderRequest, OrderState
from muster.mesh.version import PROTOCOL
from tests.kit.waiting import deadline, eventually

REQUEST = OrderRequest(blueprint="nothing", on="e1")
BEAT = 12.5


class Agent:
    """An agent as far as a broker sees one: it lives, and hears what starts."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.begun: asyncio.Queue[Msg] = asyncio.Queue()

    async def live(self, at: float = BEAT) -> None:
        """A heartbeat that the broker has heard."""
        presence = Presence(agent="a1", at=at, protocol=PROTOCOL)
        await self.broker.client.publish(names.presence("e1"), msgspec.json.encode(presence))
        await eventually(lambda: self.broker.presences.beat("e1", "a1") == at, what="the heartbeat is heard")

    async def order(self, key: str | None = None) -> Order:
        """An order for e1."""
        (order,) = await self.broker.commands.orders.create(REQUEST, by=Caller(name="test"), key=key)
        return order

    async def done(self, order: Order) -> None:
        """Report its end."""
        record = records.Done(order=order.id, attempt=order.attempt, state=OrderState.FINISHED)
        await self.broker.publisher.send(records.subject(record, "e1"), records.encode(record))
        await eventually(lambda: order.id not in self.broker.state.orders, what="the end is known")


@pytest_asyncio.fixture
async def agent(broker: Broker) -> Agent:
    """The agent of e1, online."""
    agent = Agent(broker)

    async def heard(message: Msg) -> None:
        agent.begun.put_nowait(message)

    await broker.client.subscribe(names.direct_start("e1"), cb=heard)
    outcome = await broker.log.append(records.Joined(element="e1", agent="a1"))
    assert outcome.refused is None
    await agent.live()
    return agent


def json(message: Msg) -> records.Created | records.Fired:
    """The record that started an order."""
    record, _ = records.decode((message.headers or {})["Nats-Subject"], message.data)
    assert isinstance(record, records.Created | records.Fired), record
    return record


async def work(broker: Broker, least: int) -> list[Packet]:
    """What is in the work stream, once there is so much."""
    stream = broker.client.jetstream()
    async with deadline(10, f"{least} messages of work"):
        while (state := (await stream.stream_info(names.WORK_STREAM)).state).messages < least:
            continue
    if not state.messages:
        return []
    found = [await stream.get_msg(names.WORK_STREAM, seq) for seq in range(state.first_seq, state.last_seq + 1)]
    return [msgspec.json.decode(message.data or b"", type=Packet) for message in found]


async def test_the_server_hands_the_agent_an_order_that_runs_already(broker: Broker, agent: Agent) -> None:
    order = await agent.order()
    assert (order.state, order.element, order.agent, order.attempt) == (OrderState.RUNNING, "e1", "a1", 1)
    async with deadline(5, "the order starts"):
        message = await agent.begun.get()
    record = json(message)
    assert (record.about, record.start) == (order.id, Direct(agent="a1", beat=BEAT))
    assert int((message.headers or {})["Nats-Sequence"]) == order.rev
    await agent.done(order)
    assert [entry["type"] for entry in await broker.log.records_of("order", order.id)] == ["created", "done"]
    assert await work(broker, 0) == []


async def test_both_steps_are_reported_as_events(broker: Broker, agent: Agent) -> None:
    order = await agent.order()
    await broker.recorder.caught_up()
    events, _ = await broker.query.past_events.after(None, ("order",), 10)
    assert [event.kind for event in events if event.subject == order.id] == ["order.created", "order.running"]


async def test_no_order_begins_beyond_the_slots(broker: Broker, agent: Agent) -> None:
    first = await agent.order()
    assert (await agent.order()).state is OrderState.OFFERED
    await agent.done(first)
    assert (await agent.order()).state is OrderState.OFFERED, "another one is on its way"


async def test_no_order_starts_on_an_agent_that_is_not_heard_of(broker: Broker, agent: Agent) -> None:
    await agent.live()
    broker.presences._clock = lambda: monotonic() + 60
    assert (await agent.order()).state is OrderState.OFFERED


async def test_no_order_starts_on_an_agent_without_a_clock(broker: Broker, agent: Agent) -> None:
    await agent.live(at=0.0)
    assert (await agent.order()).state is OrderState.OFFERED


async def test_of_many_at_once_as_many_begin_as_there_are_slots(broker: Broker, agent: Agent) -> None:
    await broker.commands.objects.apply(load("{kind: machine, name: e1, slots: 4}"), by=Caller(name="test"))
    made = await asyncio.gather(*(agent.order() for _ in range(10)))
    assert [order.state for order in made] == [OrderState.RUNNING] * 4 + [OrderState.OFFERED] * 6
    assert {json(await agent.begun.get()).about for _ in range(4)} == {order.id for order in made[:4]}
    assert {packet.order for packet in await work(broker, 6)} == {order.id for order in made[4:]}


async def test_what_has_begun_runs_whatever_came_before_it_on_the_log(broker: Broker, agent: Agent) -> None:
    """Its agent has heard so, and knows nothing else."""
    drained = asyncio.ensure_future(broker.commands.elements.set_drained("e1", drained=True, by=Caller(name="test")))
    await asyncio.sleep(0)
    order = await agent.order()
    assert (await drained)["drained"]
    assert order.state is OrderState.RUNNING
    assert (await agent.order()).state is OrderState.QUEUED


async def test_an_order_of_the_clock_begins_and_one_of_an_event_is_offered(broker: Broker, agent: Agent) -> None:
    """What somebody's event says is for the agent only as far as the inputs take it up."""
    due = datetime(2030, 1, 1, tzinfo=UTC)
    ticked = await broker.commands.firings.fire(FireRequest(trigger="bell", event={}, key="tick", due=due))
    order = broker.state.orders[ticked.orders[0]]
    assert (order.state, order.agent, order.trigger) == (OrderState.RUNNING, "a1", "bell")
    message = await agent.begun.get()
    assert (json(message).about, json(message).starts_on) == (order.id, "e1")
    again = await broker.commands.firings.fire(FireRequest(trigger="bell", event={}, key="tick", due=due))
    assert (again.duplicate, again.orders) == (True, ticked.orders)
    await agent.done(order)
    rung = await broker.commands.firings.fire(FireRequest(trigger="bell", event={"body": "secret"}, key="ring"))
    assert broker.state.orders[rung.orders[0]].state is OrderState.OFFERED


async def test_a_firing_that_has_begun_counts_though_its_trigger_is_gone(broker: Broker, agent: Agent) -> None:
    await asyncio.gather(
        broker.commands.objects.delete("trigger", "bell", by=Caller(name="test")),
        broker.commands.firings.fire(
            FireRequest(trigger="bell", event={}, key="tick", due=datetime(2030, 1, 1, tzinfo=UTC))
        ),
    )
    order = json(await agent.begun.get()).about
    assert broker.state.orders[order].state is OrderState.RUNNING


async def test_a_key_makes_one_order_however_it_begins(broker: Broker, agent: Agent) -> None:
    first = await agent.order("once")
    assert first.state is OrderState.RUNNING
    again = await agent.order("once")
    assert again.id == first.id
    await agent.done(first)
    await broker.recorder.caught_up()
    ended = await agent.order("once")
    assert (ended.id, ended.state) == (first.id, OrderState.FINISHED)


async def test_what_starts_on_a_daemon_that_has_just_been_succeeded_is_offered_at_once(
    broker: Broker, agent: Agent
) -> None:
    """The broker had not read of the new daemon yet when it wrote the record."""
    await broker.log.append(records.Joined(element="e1", agent="a1", place="here"))
    await broker.log.append(records.Joined(element="e1", agent="a2", place="here"))
    pinned = broker.state.objects.stored["blueprint", "nothing"]
    record = records.Created(
        order="o1",
        blueprint="nothing",
        version=pinned.version,
        digest="d",
        element="e1",
        start=Direct(agent="a1", beat=1.0),
        by=Caller(name="x"),
    )
    changes = await broker.log.append(record)
    order = changes.orders["o1"]
    assert order.state is OrderState.OFFERED
    assert [event.kind for event in changes.events] == ["order.created", "order.lost"]
    (packet,) = await work(broker, 1)
    assert (packet.order, packet.attempt, packet.rev) == ("o1", 2, order.rev)


async def test_nobody_else_may_write_where_orders_begin(broker: Broker, agent: Agent) -> None:
    record = records.Created(
        order="o1",
        blueprint="nothing",
        version=1,
        digest="d",
        element="e1",
        start=Direct(agent="a1"),
        by=Caller(name="x"),
    )
    data = records.encode(record)
    right = records.subject(record)
    assert not isinstance(records.decode(right, data)[0], str)
    for wrong in (names.log("order", "o1"), names.log_start("o1", "e2"), names.log_start("o2", "e1")):
        assert isinstance(records.decode(wrong, data)[0], str)
    plain = records.encode(records.Created(order="o1", blueprint="nothing", version=1, digest="d", by=Caller(name="x")))
    assert isinstance(records.decode(right, plain)[0], str)


class TestOrdersThatLast:
    """They get a message after all: it carries the lease, and finds an agent that heard of nothing."""

    @pytest.fixture
    def lease(self) -> timedelta:
        """Short, for what follows comes after a twentieth of it."""
        return timedelta(seconds=6)

    async def test_the_message_lends_the_lease_and_cannot_be_claimed(self, broker: Broker, agent: Agent) -> None:
        order = await agent.order()
        (packet,) = await work(broker, 1)
        assert (packet.order, packet.attempt, packet.rev) == (order.id, 1, 0)
        claim = records.Claimed(order=order.id, attempt=1, element="e1", agent="a1")
        only_if = compare_and_set(names.log_of("order", order.id), packet.rev)
        with pytest.raises(LostRaceError):
            await broker.publisher.send(records.subject(claim, "e1"), records.encode(claim), only_if)

    async def test_an_agent_that_heard_of_nothing_gets_it_anew(self, broker: Broker, agent: Agent) -> None:
        order = await agent.order()
        await work(broker, 1)
        reply = await broker.commands.orders.resume(
            ResumeRequest(order=order.id, attempt=1, element="e1", agent="a1"), by=Caller(name="test")
        )
        assert reply.drop
        _, anew = await work(broker, 2)
        assert (anew.order, anew.attempt) == (order.id, 2)
        assert anew.rev > order.rev

    async def test_a_question_about_an_attempt_that_is_over_gives_up_no_other(
        self, broker: Broker, agent: Agent
    ) -> None:
        """It may have waited for the broker for long."""
        order = await agent.order()
        await broker.commands.orders.resume(
            ResumeRequest(order=order.id, attempt=2, element="e1", agent="a1"), by=Caller(name="test")
        )
        assert broker.state.orders[order.id].state is OrderState.RUNNING

    async def test_another_daemon_cannot_take_what_the_first_may_still_run(self, broker: Broker, agent: Agent) -> None:
        order = await agent.order()
        await broker.log.append(records.Joined(element="e1", agent="a2", place="elsewhere"))
        await broker.commands.orders.resume(
            ResumeRequest(order=order.id, attempt=1, element="e1", agent="a2"), by=Caller(name="test")
        )
        assert broker.state.orders[order.id].agent == "a1"

    async def test_a_new_leader_lends_what_an_old_one_may_have_left_out(self, broker: Broker, agent: Agent) -> None:
        order = await agent.order()
        broker.direct_starts.observe_everything()
        packets = await work(broker, 1)
        assert [packet.order for packet in packets] == [order.id], "and no more than one"


async def test_a_loaded_state_gives_up_in_the_same_order(broker: Broker, agent: Agent) -> None:
    """It holds orders by when they were made, a living one by when they started to run."""
    await broker.log.append(records.Joined(element="e1", agent="a1", place="here"))
    made = [
        await broker.commands.orders.create(OrderRequest(blueprint="nothing", on="e1"), by=Caller(name="test"))
        for _ in "ab"
    ]
    idents = [orders[0].id for orders in made]
    for ident in idents:
        await broker.log.append(records.Lost(order=ident, attempt=1, reason="test"))
    for ident in reversed(idents):
        attempt = broker.state.orders[ident].attempt + 1
        claim = records.Claimed(order=ident, attempt=attempt, element="e1", agent="a1")
        await broker.publisher.publish(records.subject(claim, "e1"), records.encode(claim))
    await eventually(lambda: {broker.state.orders[ident].state for ident in idents} == {OrderState.RUNNING})
    changes = await broker.log.append(records.Joined(element="e1", agent="a2", place="here"))
    assert [event.subject for event in changes.events if event.kind == "order.lost"] == idents
