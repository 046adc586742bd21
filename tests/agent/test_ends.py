"""Every order ends some day, and as it should."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from muster.agent import execute
from muster.agent.job import _delay
from muster.agent.settings import AgentSettings
from muster.blueprints.definition import Retry
from muster.mesh import records
from muster.mesh.model import CleanUp, Job, JobState, OrderState
from tests.agent.broker_stand_in import StandIn
from tests.agent.conftest import running_agent
from tests.kit.waiting import eventually


@pytest.mark.parametrize(("delay", "waits"), [("1ms", 0.01), ("0s", 0.0)])
def test_a_delay_never_overflows(delay: str, waits: float) -> None:
    assert _delay(Retry(attempts=1000, delay=delay, backoff=10.0, max_delay="10ms"), 400) == waits


async def test_child_orders_too_large_for_a_message_fail_their_task(broker: StandIn, agent: asyncio.Event) -> None:
    inputs = dict.fromkeys("abcdefghij", "{{ inputs.t }}")
    task = {"name": "a", "uses": "order", "with": {"blueprint": "b", "inputs": inputs}}
    done = await broker.done(await broker.order([task], inputs={"t": "x" * 900_000}))
    assert done.state is OrderState.FAILED
    assert "more than the NATS server takes" in done.reason
    assert not broker.requests


async def test_an_order_on_which_its_agent_keeps_failing_fails(
    broker: StandIn, agent: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(_: Any) -> Any:
        raise ZeroDivisionError("a bug of ours")

    monkeypatch.setattr(execute, "run", failing)
    broker.on_resume = broker.lose
    order = await broker.order([{"name": "a", "uses": "noop"}])
    done = await broker.done(order)
    assert done.state is OrderState.FAILED
    assert "a bug of ours" in done.reason
    assert len(broker.of(order, records.Claimed)) == execute.MOST_BUGS


NOOP = {"name": "a", "uses": "noop"}


async def running(broker: StandIn, order: str, job: str) -> None:
    """Returns once the agent has reported that a job runs."""
    await eventually(lambda: any(job == each.name for it in broker.of(order, records.Reported) for each in it.jobs))


@pytest.mark.parametrize(("task", "ends"), [("true", OrderState.CANCELLED), ("exit 3", OrderState.FAILED)])
async def test_a_cancel_bounds_the_time_of_always(
    broker: StandIn, agent_settings: AgentSettings, task: str, ends: OrderState
) -> None:
    async with running_agent(agent_settings, cleanup=timedelta(seconds=0.3)):
        order = await broker.order(
            {"tasks": [{"name": "a", "run": task}], "always": [{"name": "z", "run": "sleep 300"}]}
        )
        await running(broker, order, "z")
        await broker.cancel(order)
        done = await broker.done(order)
    assert done.state is ends
    assert {job.name: job.error for job in done.jobs}["z"] == "not finished within the time for cleaning up"


async def test_the_end_of_an_orders_time_bounds_that_of_always(broker: StandIn, agent_settings: AgentSettings) -> None:
    async with running_agent(agent_settings, cleanup=timedelta(seconds=0.3)):
        always = [{"name": "z", "run": "sleep 300"}]
        done = await broker.done(await broker.order({"tasks": [NOOP], "always": always, "timeout": "300ms"}))
    assert (done.state, done.reason) == (OrderState.FAILED, "the order timed out after 300ms")


async def test_always_may_end_after_a_cancel(broker: StandIn, agent: asyncio.Event) -> None:
    order = await broker.order({"tasks": [NOOP], "always": [{"name": "z", "run": "sleep 0.8"}]})
    await running(broker, order, "z")
    await broker.cancel(order)
    assert (await broker.done(order)).state is OrderState.FINISHED


async def test_a_wait_in_always_waits_after_a_cancel(
    broker: StandIn, agent: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("muster.blueprints.kinds.wait.SHORT", timedelta(0))
    always = [{"name": "y", "uses": "wait", "with": {"for": "500ms"}}, {"name": "z", "uses": "noop"}]
    order = await broker.order({"tasks": [{"name": "a", "run": "sleep 300"}], "always": always})
    await running(broker, order, "a")
    await broker.cancel(order)
    done = await broker.done(order)
    states = {job.name: job.state for job in done.jobs}
    assert (done.state, states["y"], states["z"]) == (OrderState.CANCELLED, JobState.FINISHED, JobState.FINISHED)


async def test_a_failed_clean_up_is_not_forgotten_by_the_next_attempt(broker: StandIn, agent: asyncio.Event) -> None:
    jobs = Job(name="a", state=JobState.FINISHED), Job(name="y", state=JobState.FAILED, error="exit code 1")
    always = [{"name": "y", "run": "exit 1"}, {"name": "z", "uses": "noop"}]
    done = await broker.done(await broker.order({"tasks": [NOOP], "always": always}, jobs=jobs))
    assert (done.state, done.reason) == (OrderState.FAILED, "task 'y' failed: exit code 1")


async def test_of_an_order_cancelled_while_it_waited_only_always_runs(broker: StandIn, agent: asyncio.Event) -> None:
    tasks = [NOOP, {"name": "b", "uses": "noop"}]
    jobs = (Job(name="a", state=JobState.SUSPENDED, memo={}),)
    clean_up = CleanUp(state=OrderState.CANCELLED, reason="cancelled by test", since=datetime.now(UTC))
    order = await broker.order({"tasks": tasks, "always": [{"name": "z", "uses": "noop"}]}, jobs=jobs, ending=clean_up)
    done = await broker.done(order)
    assert done.state is OrderState.CANCELLED
    assert {job.name: job.state for job in done.jobs} == {"a": JobState.CANCELLED, "z": JobState.FINISHED}
