"""What happens to an order when something dies, hangs or goes away."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from muster.agent.main import run_agent
from muster.agent.settings import AgentSettings
from muster.mesh import names, records
from muster.mesh.caller import Caller
from muster.mesh.embedded_nats import EmbeddedNats
from muster.mesh.errors import UnavailableError
from muster.mesh.messages import ResumeRequest
from muster.mesh.model import Job, JobState, Offered, OrderState
from muster.mesh.service import Stop
from tests.agent.broker_stand_in import StandIn
from tests.agent.conftest import running_agent
from tests.kit.processes import Program
from tests.kit.waiting import deadline, eventually


@pytest.fixture
def lease() -> timedelta:
    """Short, so that a lost agent is found early."""
    return timedelta(seconds=1.5)


@asynccontextmanager
async def agent_process(settings: AgentSettings) -> AsyncIterator[Program]:
    """An agent that can be killed."""
    text = msgspec.json.encode(settings, enc_hook=str).decode()
    async with Program.start([sys.executable, "-m", "tests.agent.agent_process", text]) as program:
        await program.line("agent.ready")
        yield program


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


async def pid_in(path: Path) -> int:
    """The process number that a task has written there."""
    return int(await eventually(lambda: path.exists() and path.read_text().strip(), what=f"a number in {path}"))


def waiting_task(path: Path, **fields: Any) -> dict[str, Any]:
    """A task that reports its number and stays, with a child in its group, and one in a group of its own."""
    apart = f"set -m; sleep 300 > /dev/null 2>&1 & echo $! > {path}.apart; set +m"
    return {"name": "a", "run": f"{apart}; sleep 300 & echo $! > {path}.child; echo $$ > {path}; wait", **fields}


async def pids_of(path: Path) -> list[int]:
    """The numbers that belong to a task which waits."""
    return [await pid_in(path.with_name(f"{path.name}{end}")) for end in ("", ".child", ".apart")]


def is_any_running(pids: list[int]) -> bool:
    """Whether one of them is there and no zombie."""
    return any(is_running(pid) for pid in pids)


async def test_killing_the_agent_kills_its_tasks(
    broker: StandIn, agent_settings: AgentSettings, tmp_path: Path
) -> None:
    async with agent_process(agent_settings) as agent:
        await broker.order([waiting_task(tmp_path / "pid")])
        pids = await pids_of(tmp_path / "pid")
        agent.process.send_signal(signal.SIGKILL)
        await eventually(lambda: not is_any_running(pids))


def spawner_of(agent: Program | psutil.Process) -> psutil.Process:
    """The process that starts its tasks, as soon as it is there."""
    return next(child for child in psutil.Process(agent.pid).children() if "agent.spawner" in " ".join(child.cmdline()))


async def test_tasks_left_by_an_agent_and_its_spawner_end_at_the_next_start(
    broker: StandIn, agent_settings: AgentSettings, tmp_path: Path
) -> None:
    async with agent_process(agent_settings) as agent:
        await broker.order([waiting_task(tmp_path / "pid")])
        task, *others = pids = await pids_of(tmp_path / "pid")
        spawner = spawner_of(agent)
        os.kill(agent.pid, signal.SIGSTOP)
        spawner.kill()
        agent.process.send_signal(signal.SIGKILL)
        await agent.ended()
    # The kit kills the agent's tree, but the task is not a part of it any more.
    assert all(is_running(pid) for pid in pids)
    os.kill(task, signal.SIGKILL)  # the number of its session stays
    async with running_agent(agent_settings):
        await eventually(lambda: not is_any_running(others))


async def test_a_killed_spawners_tasks_end_and_its_place_is_taken(
    broker: StandIn, agent_settings: AgentSettings, tmp_path: Path
) -> None:
    async with agent_process(agent_settings) as agent:
        order = await broker.order([waiting_task(tmp_path / "pid")])
        pids = await pids_of(tmp_path / "pid")
        spawner_of(agent).kill()
        await eventually(lambda: not is_any_running(pids))
        await eventually(lambda: order in [request.order for request in broker.resumes])
        assert (await broker.done(await broker.order([{"name": "a", "run": "true"}]))).state is OrderState.FINISHED


async def test_an_order_that_kills_its_spawner_is_lost_each_time_and_never_hangs(
    broker: StandIn, agent_settings: AgentSettings, tmp_path: Path
) -> None:
    broker.on_resume = broker.lose
    async with running_agent(agent_settings):
        order = await broker.order([{"name": "a", "run": f"echo >> {tmp_path}/times; kill -9 $PPID; sleep 300"}])
        await broker.first(order, records.Claimed, within=20, nth=5)
        await eventually(lambda: len((tmp_path / "times").read_text().splitlines()) >= 5)


async def test_a_lost_order_leaves_its_slot_though_no_broker_answers(
    broker: StandIn, agent_settings: AgentSettings, tmp_path: Path
) -> None:
    async def unanswered(request: ResumeRequest) -> None:
        raise UnavailableError(f"nobody decides about {request.order}")

    broker.on_resume = unanswered
    await broker.element("e1", slots=1)
    async with agent_process(agent_settings) as agent:
        lost = await broker.order([waiting_task(tmp_path / "pid")])
        await pids_of(tmp_path / "pid")
        spawner_of(agent).kill()
        await eventually(lambda: lost in [request.order for request in broker.resumes])
        assert (await broker.done(await broker.order([{"name": "a", "uses": "noop"}]))).state is OrderState.FINISHED


async def test_a_spawner_that_stands_still_does_not_keep_an_order_from_its_end(
    broker: StandIn, agent_settings: AgentSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("muster.agent.process.KILL_TIMEOUT", 0.5)
    async with running_agent(agent_settings):
        order = await broker.order([waiting_task(tmp_path / "pid")])
        pids = await pids_of(tmp_path / "pid")
        spawner_of(psutil.Process()).suspend()
        await broker.cancel(order)
        assert (await broker.done(order)).state is OrderState.CANCELLED
        assert not is_any_running(pids)


async def test_an_agent_that_stands_still_loses_its_tasks(
    broker: StandIn, agent_settings: AgentSettings, tmp_path: Path
) -> None:
    async with agent_process(agent_settings) as agent:
        deaf = waiting_task(tmp_path / "pid")
        await broker.order([deaf | {"run": f"trap '' TERM; {deaf['run']}"}])
        pids = await pids_of(tmp_path / "pid")
        os.kill(agent.pid, signal.SIGSTOP)
        await eventually(lambda: not is_any_running(pids))
        os.kill(agent.pid, signal.SIGCONT)
        await agent.line("did not respond")


async def test_a_lost_order_goes_on_with_the_next_attempt(
    broker: StandIn, agent_settings: AgentSettings, tmp_path: Path
) -> None:
    first = Job(name="a", state=JobState.FINISHED, outputs={"n": 1})
    broker.on_resume = lambda request: broker.lose(request, first)
    async with agent_process(agent_settings) as agent:
        order = await broker.order([{"name": "a", "uses": "noop"}, waiting_task(tmp_path / "pid") | {"name": "b"}])
        await pid_in(tmp_path / "pid")
        agent.process.send_signal(signal.SIGKILL)
        await agent.ended()
    (tmp_path / "pid").unlink()
    async with running_agent(agent_settings):
        await pid_in(tmp_path / "pid")
        claimed = await broker.first(order, records.Claimed, nth=2)
        assert claimed.attempt == 2
        assert claimed.agent != broker.of(order, records.Claimed)[0].agent
        reported = await broker.first(order, records.Reported)
        assert reported.attempt == 2
        assert [job.name for job in reported.jobs] == ["b"], "a finished task does not run again"


async def test_a_claim_that_lost_the_race_is_dropped(broker: StandIn, agent: asyncio.Event) -> None:
    blueprint = await broker.blueprint({"tasks": [{"name": "a", "uses": "noop"}]})
    packet = await broker.create(blueprint, element="e1")
    cancelled = records.CancelRequested(order=packet.order, by=Caller(name="test"))
    await broker.js.publish(records.subject(cancelled), records.encode(cancelled))
    await broker.offer(packet)
    await broker.settled()
    assert not broker.of(packet.order, records.Claimed)
    assert [request.order for request in broker.resumes] == [packet.order]


async def test_a_refused_claim_waits_for_a_broker_that_knows(broker: StandIn, agent: asyncio.Event) -> None:
    async def answer(request: ResumeRequest) -> None:
        if len(broker.resumes) < 3:
            raise UnavailableError(f"order {request.order} is not here yet")

    broker.on_resume = answer
    blueprint = await broker.blueprint({"tasks": [{"name": "a", "uses": "noop"}]})
    packet = await broker.create(blueprint, element="e1")
    await broker.offer(msgspec.structs.replace(packet, start=Offered(rev=packet.rev + 100)))
    await broker.settled()
    assert len(broker.resumes) == 3


async def test_an_agent_that_cannot_renew_its_lease_kills_its_tasks(
    broker: StandIn, agent_settings: AgentSettings, own_nats: EmbeddedNats, tmp_path: Path
) -> None:
    async with running_agent(agent_settings, kill_grace=timedelta(seconds=60)):
        deaf = {"name": "a", "run": f"trap '' TERM; echo $$ > {tmp_path}/pid; sleep 300"}
        order = await broker.order([deaf])
        task = await pid_in(tmp_path / "pid")
        assert own_nats.pid is not None
        os.kill(own_nats.pid, signal.SIGSTOP)
        try:
            await eventually(lambda: not is_running(task))
        finally:
            os.kill(own_nats.pid, signal.SIGCONT)
        await broker.settled()
        assert not broker.of(order, records.Done), "an attempt that was given up reports nothing"


async def test_an_agent_that_gave_an_order_up_says_so(
    broker: StandIn, agent_settings: AgentSettings, own_nats: EmbeddedNats, tmp_path: Path
) -> None:
    """Its message may go to another member of the pool, who cannot know whether we still run it."""
    async with running_agent(agent_settings):
        order = await broker.order([{"name": "a", "run": f"echo $$ > {tmp_path}/pid; sleep 300"}])
        task = await pid_in(tmp_path / "pid")
        assert own_nats.pid is not None
        os.kill(own_nats.pid, signal.SIGSTOP)
        try:
            await eventually(lambda: not is_running(task))
        finally:
            os.kill(own_nats.pid, signal.SIGCONT)
        await eventually(lambda: order in [request.order for request in broker.resumes])


async def test_a_task_longer_than_the_lease_is_not_disturbed(broker: StandIn, agent: asyncio.Event) -> None:
    order = await broker.order([{"name": "a", "run": "sleep 4"}])
    done = await broker.done(order)
    assert done.state is OrderState.FINISHED
    assert len(broker.of(order, records.Claimed)) == 1
    assert not broker.resumes


async def test_orders_fetched_ahead_keep_their_lease(broker: StandIn, agent: asyncio.Event) -> None:
    await broker.element("e1", slots=1)
    first = await broker.order([{"name": "a", "run": "sleep 4"}])
    second = await broker.order([{"name": "a", "uses": "noop"}])
    await broker.done(first)
    await broker.done(second)
    assert not broker.resumes


async def test_stopping_lets_short_orders_finish_and_gives_long_ones_back(
    broker: StandIn, agent_settings: AgentSettings, tmp_path: Path
) -> None:
    async with running_agent(agent_settings, grace=timedelta(seconds=1)) as stop:
        short = await broker.order([{"name": "a", "run": "sleep 0.5"}])
        long = await broker.order([waiting_task(tmp_path / "pid")])
        task = await pid_in(tmp_path / "pid")
        await broker.first(short, records.Claimed)
        stop.set()
        assert (await broker.done(short)).state is OrderState.FINISHED
    assert not is_running(task)
    assert not broker.of(long, records.Done)
    assert await broker.unacknowledged() == 1
    await eventually(lambda: broker.presence[-1].leaving)


async def test_stopping_waits_for_what_may_not_run_twice_and_begins_no_more_of_it(
    broker: StandIn, agent_settings: AgentSettings, tmp_path: Path
) -> None:
    async with running_agent(agent_settings, grace=timedelta(seconds=20)) as stop:
        once = {"idempotent": False}
        first = {"name": "a", "run": f"echo > {tmp_path}/up; until [ -e {tmp_path}/go ]; do sleep 0.05; done", **once}
        alone = await broker.order([first])
        order = await broker.order([first, {"name": "b", "run": "exit 1", **once}])
        await broker.first(order, records.Reported)
        await broker.first(alone, records.Reported)
        stop.set()
        (tmp_path / "go").touch()
        assert (await broker.done(alone)).state is OrderState.FINISHED
    assert not broker.of(order, records.Done)
    reported = {job.name: job.state for report in broker.of(order, records.Reported) for job in report.jobs}
    assert reported == {"a": JobState.FINISHED}, "the next attempt starts with b"
    assert await broker.unacknowledged() == 1


async def test_a_drained_element_takes_nothing_until_it_works_again(broker: StandIn, agent: asyncio.Event) -> None:
    await broker.element("e1", takes_work=False)
    await eventually(lambda: broker.presence)
    order = await broker.order([{"name": "a", "uses": "noop"}])
    heard = len(broker.presence)
    await eventually(lambda: len(broker.presence) > heard + 2, what="heartbeats: the agent has had its time")
    assert not broker.of(order, records.Claimed)
    await broker.element("e1", takes_work=True)
    await broker.done(order)


async def test_a_pools_order_beyond_the_slots_goes_to_another_member(
    broker: StandIn, agent_settings: AgentSettings, tmp_path: Path
) -> None:
    await broker.consumer(names.pool_consumer("p"), names.work_pool("p"))
    for element in ("e1", "e2"):
        await broker.element(element, slots=1, pools=("p",))
    async with running_agent(agent_settings), running_agent(agent_settings, elements=("e2",)):
        await broker.order([waiting_task(tmp_path / "pid")])
        await pid_in(tmp_path / "pid")
        orders = [await broker.order([{"name": "a", "uses": "noop"}], pool="p") for _ in range(5)]
        for order in orders:
            claimed = await broker.first(order, records.Claimed)
            assert claimed.element == "e2"
            await broker.done(order)


async def test_working_folders_of_a_killed_agent_are_swept_up(
    broker: StandIn, agent_settings: AgentSettings, tmp_path: Path
) -> None:
    async with agent_process(agent_settings) as agent:
        await broker.order([waiting_task(tmp_path / "pid")])
        await pid_in(tmp_path / "pid")
        agent.process.send_signal(signal.SIGKILL)
        await agent.ended()
    (left,) = (agent_settings.data / "work").iterdir()
    async with running_agent(agent_settings):
        assert not left.exists()


async def test_one_daemon_acts_for_an_element_in_a_folder(broker: StandIn, agent_settings: AgentSettings) -> None:
    async with agent_process(agent_settings) as first:
        second = asyncio.create_task(run_agent(agent_settings, Stop(), ready := asyncio.Event()))
        try:
            await eventually(lambda: len(broker.presence) > 3)
            assert not ready.is_set()
            await first.stop()
            async with deadline(20, "the second agent"):
                await ready.wait()
        finally:
            second.cancel()
            await asyncio.wait({second})


async def test_killing_an_agent_that_is_starting_tasks_leaves_none(
    broker: StandIn, agent_settings: AgentSettings, tmp_path: Path
) -> None:
    await broker.element("e1", slots=40)
    async with agent_process(agent_settings) as agent:
        for _ in range(40):
            await broker.order([{"name": "a", "run": f"echo $$ > {tmp_path}/pid-$$; sleep 300"}])
        await eventually(lambda: len(list(tmp_path.glob("pid-*"))) > 3)
        agent.process.send_signal(signal.SIGKILL)
        await agent.ended()
        await eventually(lambda: not any(is_running(int(path.name[4:])) for path in tmp_path.glob("pid-*")))


async def test_the_shorter_the_lease_the_more_often_an_agent_says_that_it_is_there(
    broker: StandIn, agent_settings: AgentSettings
) -> None:
    async with running_agent(agent_settings, heartbeat=timedelta(minutes=1)):
        await eventually(lambda: len(broker.presence) >= 8)
    beats = [presence.at for presence in broker.presence]
    gaps = sorted(after - before for before, after in pairwise(beats))
    assert gaps[len(gaps) // 2] > 0.1, "no more often than the lease wants it"
