"""An agent uses the time of its broker, even if its host's clock differs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from nats.aio.msg import Msg

from muster.agent import clock
from muster.agent.hosting import join
from muster.agent.settings import AgentSettings
from muster.mesh import names, records
from muster.mesh.messages import JoinRequest
from muster.mesh.version import OURS
from tests.agent.broker_stand_in import StandIn
from tests.agent.conftest import running_agent
from tests.kit.waiting import eventually

HOUR = 3600.0


def about(time: datetime) -> datetime:
    """To the minute, as the host has it."""
    return time.replace(second=0, microsecond=0)


@pytest.mark.parametrize("ahead", [HOUR, -HOUR])
async def test_what_an_order_waits_for_is_reckoned_in_the_broker_s_time(
    broker: StandIn, agent_settings: AgentSettings, ahead: float
) -> None:
    """The broker's is the one that is off here: to the agent that is the same."""
    broker.ahead = ahead
    retry = {"name": "b", "run": "exit 1", "retry": {"attempts": 2, "delay": "8s"}, "timeout": "1h"}
    async with running_agent(agent_settings):
        begun = datetime.now(UTC) + timedelta(seconds=ahead)
        for task in ({"name": "a", "uses": "wait", "with": {"for": "8s"}}, retry):
            waits = await broker.first(await broker.order([task]), records.Suspended)
            assert timedelta(seconds=7) < waits.until - begun < timedelta(seconds=30)
            assert abs(waits.jobs[0].started_at - begun) < timedelta(seconds=20)
        past = (begun - timedelta(minutes=10)).isoformat()
        order = await broker.order([{"name": "a", "uses": "wait", "with": {"until": past}}])
        assert (await broker.done(order)).state == "finished"


async def test_a_heartbeat_says_what_the_host_takes_the_time_for(
    broker: StandIn, agent_settings: AgentSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    wall: Callable[[], float] = lambda: 12345.0  # noqa: E731
    monkeypatch.setattr(clock.Clock, "wall", lambda _: wall())
    async with running_agent(agent_settings):
        heard = await eventually(lambda: broker.presence[-1:], what="a heartbeat")
        assert heard[0].time == 12345.0


def test_a_broker_s_time_is_of_halfway_between_the_question_and_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    elapsed = [100.0]
    monkeypatch.setattr(clock, "elapsed", lambda: elapsed[0])
    found = clock.Clock(wall=lambda: 5.0)
    assert found.now() == datetime.fromtimestamp(5, UTC)
    asked_at, elapsed[0] = 100.0, 104.0
    found.set(1000.0, asked_at)
    assert found.now() == datetime.fromtimestamp(1002, UTC)
    elapsed[0] += 60
    assert found.now() == datetime.fromtimestamp(1062, UTC)


async def test_an_agent_that_an_old_broker_answers_says_which_versions_do_not_fit(
    broker: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such a broker does not know where agents ask today; it says only of which version it is."""
    await broker.joins.unsubscribe()

    async def info(message: Msg) -> None:
        await message.respond(b'{"version": "0.0.9"}')

    await broker.client.subscribe(names.api_info(), cb=info)
    request = JoinRequest(element="e1", agent="a1", protocol=OURS.protocol, version=OURS.version)
    joining = asyncio.create_task(join(broker.client, request, clock.Clock()))
    said = ""

    def is_said() -> bool:
        nonlocal said
        said += capsys.readouterr().out
        return "join.waits" in said

    await eventually(is_said, what="a word about it")
    joining.cancel()
    assert "the broker of version 0.0.9 (protocol 1): they do not fit; upgrade the broker" in said
