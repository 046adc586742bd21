"""Orders that start with their first record: no offer and no claim, and the same care as for any other."""

from __future__ import annotations

import asyncio
import os
import signal
from datetime import timedelta
from functools import partial
from pathlib import Path

import msgspec
import pytest

from muster.agent.lease import now
from muster.agent.settings import AgentSettings
from muster.agent.start import SEQUENCE
from muster.mesh import names, records
from muster.mesh.connection import settled
from muster.mesh.embedded_nats import EmbeddedNats
from muster.mesh.messages import Packet
from muster.mesh.model import Direct, JobState, Offered, OrderState
from tests.agent.broker_stand_in import StandIn
from tests.agent.conftest import running_agent
from tests.agent.test_faults import is_running, pid_in
from tests.kit.waiting import eventually

NOOP = [{"name": "a", "uses": "noop"}]


def heard_now(record: records.Record) -> records.Created:
    """The same record, as if its agent had been heard of just now."""
    assert isinstance(record, records.Created)
    assert record.start is not None
    return msgspec.structs.replace(record, start=Direct(agent=record.start.agent, beat=now()))


async def test_it_runs_without_a_claim(broker: StandIn, agent: asyncio.Event) -> None:
    packet = await broker.begin(NOOP)
    done = await broker.done(packet.order)
    assert (done.state, done.attempt) == (OrderState.FINISHED, 1)
    assert [type(record) for record in broker.of(packet.order)] == [records.Created, records.Done]
    assert not broker.resumes


async def test_what_began_too_long_ago_is_not_begun_but_asked_for(broker: StandIn, agent: asyncio.Event) -> None:
    """Whoever slept, or was cut off, may have been given up meanwhile."""
    packet = await broker.begin(NOOP, beat=now() - broker.lease.total_seconds())
    broker.on_resume = broker.lose
    await broker.offer(packet)
    done = await broker.done(packet.order)
    assert done.attempt == 2
    assert [type(record) for record in broker.of(packet.order)] == [
        records.Created,
        records.Lost,
        records.Claimed,
        records.Done,
    ]


async def test_a_first_record_that_comes_after_the_broker_was_asked_is_too_late(
    broker: StandIn, agent: asyncio.Event
) -> None:
    packet = await broker.begin(NOOP, beat=now() - broker.lease.total_seconds())
    await eventually(lambda: [request.order for request in broker.resumes] == [packet.order])
    late = heard_now(broker.of(packet.order)[0])
    await broker.client.publish(names.direct_start("e1"), records.encode(late), headers={SEQUENCE: "1"})
    after = await broker.begin(NOOP)
    await broker.done(after.order)
    assert not broker.of(packet.order, records.Done)


async def test_another_daemons_order_is_left_alone(broker: StandIn, agent: asyncio.Event) -> None:
    packet = await broker.begin(NOOP, agent="another")
    after = await broker.begin(NOOP)
    await broker.done(after.order)
    assert not broker.of(packet.order, records.Done)


async def held(broker: StandIn, folder: Path) -> Packet:
    """An order that has started, and runs until there is a file `go` in the folder."""
    packet = await broker.begin([{"name": "a", "run": f"until [ -e {folder}/go ]; do sleep 0.05; done"}])
    await broker.first(packet.order, records.Reported)
    return packet


async def test_beyond_the_slots_it_waits_for_the_next_one(
    broker: StandIn, agent_settings: AgentSettings, tmp_path: Path
) -> None:
    """The broker hears of an order's end before its agent hears that the end is stored."""
    await broker.element("e1", slots=1)
    async with running_agent(agent_settings):
        first = await held(broker, tmp_path)
        second = await broker.begin([{"name": "a", "run": f"test -e {tmp_path}/go"}])
        third = await broker.order(NOOP)
        (tmp_path / "go").touch()
        for order, attempt in ((first.order, 1), (second.order, 1), (third, 1)):
            done = await broker.done(order)
            assert (done.state, done.attempt) == (OrderState.FINISHED, attempt)
        assert not broker.resumes


async def test_what_is_cancelled_while_it_waits_for_a_slot_never_starts(
    broker: StandIn, agent_settings: AgentSettings, tmp_path: Path
) -> None:
    await broker.element("e1", slots=1)
    async with running_agent(agent_settings):
        await held(broker, tmp_path)
        second = await broker.begin([{"name": "a", "run": f"touch {tmp_path}/started"}])
        await broker.cancel(second.order)
        await settled(broker.client)
        (tmp_path / "go").touch()
        assert (await broker.done(second.order)).state is OrderState.CANCELLED
        assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("headers", [None, {SEQUENCE: "soon"}, {SEQUENCE: "0"}, {SEQUENCE: "-1"}])
async def test_a_record_that_no_server_passed_on_begins_nothing(
    broker: StandIn, agent: asyncio.Event, headers: dict[str, str] | None
) -> None:
    """It must say where it is on the log."""
    before = await broker.begin(NOOP)
    await broker.done(before.order)
    forged = heard_now(msgspec.structs.replace(broker.of(before.order)[0], order=names.new_id()))
    await broker.client.publish(names.direct_start("e1"), records.encode(forged), headers=headers)
    after = await broker.begin(NOOP)
    await broker.done(after.order)
    assert not broker.of(forged.order)
    assert not broker.resumes


async def test_an_agent_that_stops_declines(broker: StandIn, agent_settings: AgentSettings, tmp_path: Path) -> None:
    async with running_agent(agent_settings, grace=timedelta(seconds=10)) as stop:
        first = await held(broker, tmp_path)
        stop.set()
        late = await eventually_declined(broker)
        assert not broker.of(late, records.Done)
        (tmp_path / "go").touch()
        assert (await broker.done(first.order)).state is OrderState.FINISHED


async def eventually_declined(broker: StandIn) -> str:
    """Orders start until the agent, asked to stop, declines one."""
    for _ in range(100):
        packet = await broker.begin(NOOP)
        if await eventually(partial(declined_or_done, broker, packet.order)) == "declined":
            return packet.order
    raise AssertionError("it takes orders although it stops")


def declined_or_done(broker: StandIn, order: str) -> str:
    """What became of it, if anything has."""
    if order in [request.order for request in broker.resumes]:
        return "declined"
    return "done" if broker.of(order, records.Done) else ""


async def test_what_has_ended_is_reported_though_the_agent_stops(
    broker: StandIn, agent_settings: AgentSettings, tmp_path: Path
) -> None:
    """Else it would be done again: an end is reported some time later, with what comes after it."""
    async with running_agent(agent_settings, grace=timedelta(0)) as stop:
        packet = await broker.begin(
            [{"name": "a", "run": ":"}, {"name": "b", "run": f"echo $$ > {tmp_path}/pid; sleep 300"}]
        )
        await pid_in(tmp_path / "pid")
        stop.set()
        reported = await broker.first(packet.order, records.Reported)
    assert {job.name: job.state for job in reported.jobs}["a"] is JobState.FINISHED


class TestTheLease:
    """It is counted from the heartbeat by which the broker knew the agent, until a message carries the lease."""

    @pytest.fixture
    def lease(self) -> timedelta:
        return timedelta(seconds=3)

    async def test_a_long_order_renews_the_lease_that_its_message_lends(
        self, broker: StandIn, agent: asyncio.Event
    ) -> None:
        packet = await broker.begin([{"name": "a", "run": "sleep 4"}])
        await broker.first(packet.order, records.Reported)
        await broker.offer(packet)
        assert (await broker.done(packet.order)).attempt == 1
        await broker.settled()
        assert not broker.resumes
        assert not broker.of(packet.order, records.Claimed)

    async def test_its_message_counts_though_no_slot_is_free(
        self, broker: StandIn, agent_settings: AgentSettings, tmp_path: Path
    ) -> None:
        """Also that of an order which itself still waits for a slot."""
        await broker.element("e1", slots=1)
        async with running_agent(agent_settings):
            first = await broker.begin([{"name": "a", "run": "sleep 4"}])
            await broker.first(first.order, records.Reported)
            second = await broker.begin(NOOP)
            await broker.offer(first)
            await broker.offer(second)
            for packet in (first, second):
                done = await broker.done(packet.order)
                assert (done.state, done.attempt) == (OrderState.FINISHED, 1)
            await broker.settled()
            assert not broker.resumes
            assert not broker.of(first.order, records.Claimed)

    async def test_its_message_counts_though_others_stand_before_it(
        self, broker: StandIn, agent_settings: AgentSettings
    ) -> None:
        await broker.element("e1", slots=1)
        async with running_agent(agent_settings):
            packet = await broker.begin([{"name": "a", "run": "sleep 4"}])
            others = [await broker.order(NOOP) for _ in range(5)]
            await broker.offer(packet)
            assert (await broker.done(packet.order)).attempt == 1
            for order in others:
                await broker.done(order)
            assert not broker.resumes

    async def test_its_message_counts_though_the_element_is_drained(
        self, broker: StandIn, agent_settings: AgentSettings
    ) -> None:
        async with running_agent(agent_settings):
            packet = await broker.begin([{"name": "a", "run": "sleep 4"}])
            await broker.first(packet.order, records.Reported)
            await broker.element("e1", slots=4, takes_work=False)
            await broker.order(NOOP)
            await broker.offer(packet)
            assert (await broker.done(packet.order)).attempt == 1
            assert not broker.resumes

    async def test_without_a_broker_it_goes_on(self, broker: StandIn, agent: asyncio.Event) -> None:
        """The agent publishes the message that carries the lease itself."""
        packet = await broker.begin([{"name": "a", "run": "sleep 4"}])
        assert (await broker.done(packet.order)).attempt == 1
        await broker.settled()
        assert not broker.resumes

    async def test_cut_off_it_is_given_up_in_time(
        self, broker: StandIn, agent: asyncio.Event, own_nats: EmbeddedNats, tmp_path: Path
    ) -> None:
        packet = await broker.begin([{"name": "a", "run": f"echo $$ > {tmp_path}/pid; sleep 300"}])
        pid = await pid_in(tmp_path / "pid")
        assert own_nats.pid is not None
        os.kill(own_nats.pid, signal.SIGSTOP)
        try:
            await eventually(lambda: not is_running(pid))
        finally:
            os.kill(own_nats.pid, signal.SIGCONT)
        await eventually(lambda: packet.order in [request.order for request in broker.resumes])
        assert not broker.of(packet.order, records.Done)

    async def test_an_order_that_is_offered_anew_stops_the_attempt_that_began(
        self, broker: StandIn, agent: asyncio.Event, tmp_path: Path
    ) -> None:
        packet = await broker.begin([{"name": "a", "run": f"echo $$ >> {tmp_path}/pids; sleep 1"}])
        await pid_in(tmp_path / "pids")
        lost = records.Lost(order=packet.order, attempt=1, reason="test")
        ack = await broker.js.publish(records.subject(lost), records.encode(lost))
        anew = msgspec.structs.replace(packet, attempt=2, start=Offered(rev=ack.seq))
        await broker.js.publish(names.work_element("e1"), msgspec.json.encode(anew))
        assert (await broker.done(packet.order)).attempt == 2
        assert len((tmp_path / "pids").read_text().split()) == 2
