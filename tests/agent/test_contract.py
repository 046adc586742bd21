"""The stand-in answers agents as a real broker does: the same requests, the same answers and refusals."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from nats.aio.client import Client
from nats.aio.msg import Msg

from muster.agent.start import SEQUENCE, Started, direct, is_direct
from muster.blueprints.manifest import load
from muster.broker.api.context import ApiSettings
from muster.broker.main import Broker, BrokerSettings
from muster.mesh import names, records
from muster.mesh.caller import Caller
from muster.mesh.jetstream import MSG_ID
from muster.mesh.messages import Packet, Presence, ResumeReply, Welcome
from muster.mesh.model import Direct
from muster.mesh.version import OURS
from tests.agent.broker_stand_in import StandIn, stand_in
from tests.kit.servers import Nats
from tests.kit.waiting import deadline, eventually

MANIFESTS = """
kind: machine
name: e1
slots: 4
---
kind: blueprint
name: test
tasks: [{name: a, uses: noop}]
"""
NOOP = [{"name": "a", "uses": "noop"}]


class Side(ABC):
    """A broker, as an agent sees one."""

    def __init__(self, client: Client, lease: timedelta) -> None:
        self.client = client
        self.lease = lease

    @abstractmethod
    async def order(self) -> str:
        """An order for e1; its id."""

    async def ask(self, verb: str, body: dict[str, Any], of: str = "e1", key: str = "") -> dict[str, Any]:
        """What is answered to a request of the agent of an element."""
        headers = {MSG_ID: key} if key else None
        reply = await self.client.request(names.agent(of, verb), msgspec.json.encode(body), timeout=10, headers=headers)
        answer: dict[str, Any] = msgspec.json.decode(reply.data)
        return answer

    async def refused(self, verb: str, body: dict[str, Any], of: str = "e1") -> tuple[str, int]:
        """With which kind of problem a request is refused."""
        error = (await self.ask(verb, body, of))["error"]
        return error["type"], error["status"]

    async def join(self, agent: str = "a1", **more: Any) -> Welcome:
        """An agent that has joined for e1 and was heard of."""
        welcome = msgspec.convert(await self.ask("join", joining(agent, **more)), Welcome)
        presence = Presence(agent=agent, at=1.0, protocol=OURS.protocol, version=OURS.version)
        await self.client.publish(names.presence("e1"), msgspec.json.encode(presence))
        await self.client.flush()
        return welcome

    async def work(self, number: int = 1) -> list[Packet]:
        """The first messages of the work stream."""
        js = self.client.jetstream()

        async def enough() -> bool:
            return (await js.stream_info(names.WORK_STREAM)).state.messages >= number

        await eventually(enough, what=f"{number} messages of work")
        found = [await js.get_msg(names.WORK_STREAM, seq) for seq in range(1, number + 1)]
        return [msgspec.json.decode(message.data or b"", type=Packet) for message in found]

    async def running(self) -> str:
        """An order that e1 has claimed."""
        order = await self.order()
        (packet,) = await self.work()
        claimed = records.Claimed(order=packet.order, attempt=packet.attempt, element="e1", agent="a1")
        await self.client.jetstream().publish(records.subject(claimed, "e1"), records.encode(claimed))
        return order


class Real(Side):
    """A real one."""

    async def order(self) -> str:
        body = msgspec.json.encode({"blueprint": "test", "on": "e1"})
        reply = await self.client.request(names.api("orders", "create"), body, timeout=10)
        return str(msgspec.json.decode(reply.data)["orders"][0]["id"])


class Scripted(Side):
    """The stand-in."""

    def __init__(self, broker: StandIn) -> None:
        super().__init__(broker.client, broker.lease)
        self._broker = broker

    async def order(self) -> str:
        return await self._broker.order(NOOP)


@pytest_asyncio.fixture(params=["real", "stand-in"])
async def side(request: pytest.FixtureRequest, fresh_nats: Nats, tmp_path: Path) -> AsyncIterator[Side]:
    """Each of them, with the element e1 and the blueprint `test`."""
    lease = timedelta(seconds=12)
    async with AsyncExitStack() as stack:
        if request.param == "stand-in":
            scripted = await stack.enter_async_context(stand_in(fresh_nats.url, lease))
            await scripted.element("e1", slots=4)
            yield Scripted(scripted)
            return
        settings = BrokerSettings(
            server=fresh_nats.url, open=True, data=tmp_path, api=ApiSettings(port=0), lease=lease, ready_line=False
        )
        broker = Broker(settings)
        await broker.start(stack)
        await broker.commands.objects.apply(load(MANIFESTS), by=Caller(name="test"))
        yield Real(broker.client, lease)


def joining(agent: str = "a1", **more: Any) -> dict[str, Any]:
    """A request to join for e1."""
    return {"element": "e1", "agent": agent, "protocol": OURS.protocol, "version": OURS.version, **more}


async def test_who_joins_gets_an_assignment_the_time_and_a_consumer(side: Side) -> None:
    given = (await side.join()).assignment
    assert (given.element, given.kind, given.takes_work, given.slots) == ("e1", "machine", True, 4)
    info = await side.client.jetstream().consumer_info(names.WORK_STREAM, names.element_consumer("e1"))
    assert info.config.filter_subject == names.work_element("e1")
    assert info.config.ack_wait == side.lease.total_seconds()


async def test_who_asks_for_another_element_is_refused(side: Side) -> None:
    resume = {"element": "e1", "agent": "a1", "order": "o1", "attempt": 1}
    for verb, body in (("join", joining()), ("leave", joining()), ("resume", resume)):
        assert await side.refused(verb, body, of="e2") == ("urn:muster:problem:forbidden", 403)


async def test_who_speaks_another_protocol_is_refused(side: Side) -> None:
    kind, _ = await side.refused("join", joining(protocol=OURS.protocol + 1))
    assert kind == "urn:muster:problem:version"


async def test_a_second_agent_waits_until_the_first_one_is_gone(side: Side) -> None:
    await side.join("a1", place="one")

    async def waits() -> bool:
        kind, status = await side.refused("join", joining("a2", place="two"))
        return (kind, status) == ("urn:muster:problem:unavailable", 503)

    await eventually(waits)
    assert (await side.join("a2", place="one")).assignment.element == "e1", "it follows in its place"


async def test_an_agent_that_leaves_gets_an_answer(side: Side) -> None:
    await side.join()
    assert await side.ask("leave", joining()) == {"done": True}


async def test_the_message_of_an_order_that_cannot_be_claimed_is_dropped(side: Side) -> None:
    request = {"order": "nowhere", "attempt": 1, "element": "e1", "agent": "a1"}
    assert msgspec.convert(await side.ask("resume", request), ResumeReply).drop


@pytest.mark.parametrize("verb", ["join", "leave", "resume", "create"])
async def test_what_cannot_be_read_is_refused(side: Side, verb: str) -> None:
    assert await side.refused(verb, {"element": 7}) == ("urn:muster:problem:invalid", 422)


async def test_child_orders_are_made_once_for_a_key_and_only_of_what_the_element_runs(side: Side) -> None:
    await side.join()
    parent = await side.running()
    child = {"blueprint": "test", "on": "e1", "parent": parent}

    async def made() -> list[str]:
        answer = await side.ask("create", child, key=f"{parent}.a.1")
        return [order["id"] for order in answer.get("orders", [])]

    first = await eventually(made, what="child orders, once the claim is known")
    assert len(first) == 1
    assert await made() == first
    for parent in ("nowhere", ""):
        refused = await side.refused("create", child | {"parent": parent or None})
        assert refused == ("urn:muster:problem:forbidden", 403)


async def test_an_offer_is_a_packet_whose_claim_is_compared_with_the_order_s_last_record(side: Side) -> None:
    order = await side.order()
    (packet,) = await side.work()
    assert (packet.order, packet.attempt, packet.element, packet.blueprint) == (order, 1, "e1", "test")
    assert not is_direct(packet)
    last = await side.client.jetstream().get_last_msg(names.LOG_STREAM, names.log_of("order", order))
    assert packet.rev == last.seq


class TestDirectStart:
    """Of an element that is there and has a free slot."""

    async def heard(self, side: Side, broker: StandIn | None) -> tuple[Msg, Started]:
        """The first record of an order, as the server passes it on."""
        subscription = await side.client.subscribe(names.direct_start("e1"))
        await side.join()
        async with deadline(20, "a direct start"):
            if broker is not None:
                await broker.begin(NOOP)
            else:
                await side.order()
            message = await subscription.next_msg(timeout=15)
        return message, direct(message)

    async def test_its_first_record_names_the_agent_and_its_heartbeat(self, side: Side) -> None:
        message, started = await self.heard(side, side._broker if isinstance(side, Scripted) else None)
        assert (started.start.agent, started.start.beat, started.packet.element) == ("a1", 1.0, "e1")
        assert is_direct(started.packet)
        assert int((message.headers or {})[SEQUENCE]) > 0

    async def test_its_message_is_the_packet_of_that_record(self, side: Side) -> None:
        scripted = side._broker if isinstance(side, Scripted) else None
        _, started = await self.heard(side, scripted)
        if scripted is not None:
            await scripted.offer(scripted.packets[started.packet.order])
        (packet,) = await side.work()
        assert packet == msgspec.structs.replace(started.packet, start=Direct(agent="a1"))
