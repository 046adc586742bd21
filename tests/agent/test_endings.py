"""What an agent does with an order that has failed before it came: only its clean-up; and with long retry delays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from muster.mesh import records
from muster.mesh.model import Child, CleanUp, Job, JobState, OrderState
from tests.agent.broker_stand_in import StandIn

pytestmark = pytest.mark.usefixtures("agent")

GONE = "lost: its agent was gone 3 times while it ran"


async def ended(broker: StandIn, order: str) -> tuple[records.Done, dict[str, Job]]:
    """How an order ended, and its jobs as the agent has reported them by then."""
    done = await broker.done(order)
    shown = [record.jobs for record in broker.of(order) if isinstance(record, records.Reported | records.Done)]
    return done, {job.name: job for jobs in shown for job in jobs}


async def failing(broker: StandIn, *before: Job, **blueprint: Any) -> tuple[records.Done, dict[str, JobState]]:
    """How an order and its jobs end that is offered for its clean-up."""
    text: dict[str, Any] = {
        "tasks": [{"name": "a", "run": "true"}, {"name": "b", "run": "true"}],
        "on_failure": [{"name": "f", "run": "true"}],
        "always": [{"name": "z", "run": "true"}],
    }
    clean_up = CleanUp(state=OrderState.FAILED, reason=GONE, since=datetime.now(UTC))
    order = await broker.order({**text, **blueprint}, ending=clean_up, jobs=before)
    done, jobs = await ended(broker, order)
    return done, {name: job.state for name, job in jobs.items()}


async def test_only_the_clean_up_of_an_order_runs_that_has_failed_already(broker: StandIn) -> None:
    done, states = await failing(broker, Job(name="a", state=JobState.FINISHED))
    assert (done.state, done.reason) == (OrderState.FAILED, GONE)
    assert states == {"b": JobState.FAILED, "f": JobState.FINISHED, "z": JobState.FINISHED}


async def test_a_clean_up_task_that_was_lost_with_its_agent_is_not_run_again(broker: StandIn) -> None:
    before = [Job(name="a", state=JobState.FAILED), Job(name="f", state=JobState.FAILED, error="lost with its agent")]
    assert (await failing(broker, *before))[1] == {"z": JobState.FINISHED}


async def test_the_clean_up_of_an_order_that_has_failed_has_a_bounded_time(broker: StandIn) -> None:
    done, states = await failing(broker, always=[{"name": "z", "run": "sleep 100"}])
    assert (done.reason, states["z"]) == (GONE, JobState.FAILED)


async def test_a_long_retry_delay_gives_the_slot_back(broker: StandIn) -> None:
    task = {"name": "a", "run": "exit 3", "retry": {"attempts": 3, "delay": "5s"}, "when": "inputs.go == 1"}
    order = await broker.order([task], inputs={"go": 1})
    waits = await broker.first(order, records.Suspended)
    assert waits.why == "to try task 'a' again (try 2 of 3)"
    assert timedelta(seconds=3) < waits.until - datetime.now(UTC) <= timedelta(seconds=5)
    job = waits.jobs[0]
    assert (job.state, job.tries, job.exit_code, job.memo) == (JobState.SUSPENDED, 1, 3, None)
    assert "try 1 of 3" in job.error


async def test_the_next_try_comes_when_the_order_does(broker: StandIn) -> None:
    before = Job(name="a", state=JobState.SUSPENDED, attempt=4, tries=2, error="try 2 of 3: no", exit_code=3)
    order = await broker.order(
        [{"name": "a", "run": "exit 4", "retry": {"attempts": 3, "delay": "1h"}}], jobs=(before,)
    )
    job = (await ended(broker, order))[1]["a"]
    assert (job.state, job.attempt, job.tries, job.exit_code) == (JobState.FAILED, 5, 3, 4)


async def test_a_short_retry_delay_keeps_the_slot(broker: StandIn) -> None:
    order = await broker.order([{"name": "a", "run": "exit 3", "retry": {"attempts": 2, "delay": "50ms"}}])
    await broker.done(order)
    assert not broker.of(order, records.Suspended)


async def test_a_lost_attempt_does_not_give_a_task_its_tries_back(broker: StandIn) -> None:
    before = Job(name="a", state=JobState.RUNNING, attempt=2, tries=2)
    order = await broker.order(
        [{"name": "a", "run": "exit 3", "retry": {"attempts": 2, "delay": "1h"}}], jobs=(before,)
    )
    job = (await ended(broker, order))[1]["a"]
    assert (job.state, job.attempt, job.tries) == (JobState.FAILED, 3, 2)


@pytest.mark.parametrize("reason", ["stopped by us", "its own"])
async def test_a_timeout_is_said_before_what_it_did_to_child_orders(broker: StandIn, reason: str) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    before = Job(name="a", state=JobState.SUSPENDED, memo={"orders": ["child"]}, deadline=past)
    task = {"name": "a", "uses": "order", "with": {"blueprint": "b"}, "timeout": "3s"}
    blueprint = await broker.blueprint({"tasks": [task]})
    packet = await broker.create(blueprint, element="e1", jobs=(before,))
    why = f"cancelled by order {packet.order}" if reason == "stopped by us" else "cancelled by anna"
    child = Child(state=OrderState.CANCELLED, reason=why)
    await broker.offer(replace(packet, children={"child": child}))
    job = (await ended(broker, packet.order))[1]["a"]
    first = "timed out after 3s: " if reason == "stopped by us" else ""
    assert job.error == f"{first}1 of 1 child orders did not finish: child cancelled: {why}"
