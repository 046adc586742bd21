"""An order's way through its tasks."""

from __future__ import annotations

from pathlib import Path

import pytest

from muster.mesh import records
from muster.mesh.model import JobState, OrderState
from tests.agent.broker_stand_in import StandIn

pytestmark = pytest.mark.usefixtures("agent")


async def test_a_short_order_costs_one_claim_and_one_done(broker: StandIn) -> None:
    order = await broker.order([{"name": "a", "uses": "noop"}, {"name": "b", "uses": "noop"}])
    done = await broker.done(order)
    assert done.state is OrderState.FINISHED
    assert [(job.name, job.state) for job in done.jobs] == [("a", JobState.FINISHED), ("b", JobState.FINISHED)]
    assert [type(record) for record in broker.of(order)] == [records.Created, records.Claimed, records.Done]
    await broker.settled()


async def test_a_script_gets_inputs_and_gives_outputs(broker: StandIn) -> None:
    order = await broker.order(
        [{"name": "a", "run": 'echo "hello $INPUT_WHO"; echo "n=3" >> "$MUSTER_OUTPUTS"'}], inputs={"who": "you"}
    )
    done = await broker.done(order)
    assert done.jobs[0].exit_code == 0
    assert done.outputs == {"n": 3}
    assert broker.output[f"{order}.a"] == b"hello you\n"


async def test_templates_and_conditions_see_earlier_tasks(broker: StandIn) -> None:
    order = await broker.order(
        [
            {"name": "a", "run": 'echo "n=3" >> "$MUSTER_OUTPUTS"'},
            {"name": "b", "run": "cat note", "files": {"note": "n is {{ tasks.a.outputs.n }}"}},
            {"name": "c", "run": "true", "when": "tasks.a.outputs.n > 5"},
        ]
    )
    done = await broker.done(order)
    reports = [*broker.of(order, records.Reported), done]  # on a busy machine the first job is reported before the end
    states = {job.name: job.state for report in reports for job in report.jobs}
    assert states == {"a": JobState.FINISHED, "b": JobState.FINISHED, "c": JobState.SKIPPED}, done
    assert broker.output[f"{order}.b"] == b"n is 3"


async def test_a_failure_leads_to_on_failure_and_always(broker: StandIn) -> None:
    order = await broker.order(
        {
            "tasks": [{"name": "a", "run": "exit 3"}, {"name": "b", "run": "true"}],
            "on_failure": [{"name": "f", "run": "true"}],
            "always": [{"name": "z", "run": "true"}],
        }
    )
    done = await broker.done(order)
    assert done.state is OrderState.FAILED
    assert "task 'a' failed" in done.reason
    assert [(job.name, job.state) for job in done.jobs] == [
        ("a", JobState.FAILED),
        ("f", JobState.FINISHED),
        ("z", JobState.FINISHED),
    ]
    assert done.jobs[0].exit_code == 3


async def test_a_failed_task_is_tried_again(broker: StandIn) -> None:
    order = await broker.order(
        [
            {
                "name": "a",
                "run": 'echo x >> "$PWD/../tries-$INPUT_ID"; [ $(wc -l < "$PWD/../tries-$INPUT_ID") = 3 ]',
                "retry": {"attempts": 5, "delay": "10ms"},
            }
        ],
        inputs={"id": "1"},
    )
    done = await broker.done(order)
    assert done.state is OrderState.FINISHED
    assert done.jobs[0].attempt == 3


async def test_a_task_ends_at_its_timeout(broker: StandIn) -> None:
    order = await broker.order([{"name": "a", "run": "sleep 100", "timeout": "200ms"}])
    done = await broker.done(order)
    assert done.state is OrderState.FAILED
    assert done.jobs[0].error == "timed out after 200ms"


async def test_an_order_ends_at_its_timeout_and_cleans_up(broker: StandIn) -> None:
    order = await broker.order(
        {
            "tasks": [{"name": "a", "run": "sleep 100"}],
            "always": [{"name": "z", "run": "echo bye"}],
            "timeout": "300ms",
        }
    )
    done = await broker.done(order)
    assert done.state is OrderState.FAILED
    assert "300ms" in done.reason
    jobs = {job.name: job.state for job in done.jobs}
    assert jobs["z"] is JobState.FINISHED
    assert broker.output[f"{order}.z"] == b"bye\n"


async def test_a_cancelled_order_ends_its_tasks_and_runs_always(broker: StandIn) -> None:
    order = await broker.order(
        {
            "tasks": [{"name": "a", "run": "trap 'echo stopping; exit 1' TERM; echo up; sleep 100 & wait"}],
            "on_failure": [{"name": "f", "run": "true"}],
            "always": [{"name": "z", "run": "true"}],
        }
    )
    await broker.first(order, records.Reported)
    await broker.cancel(order)
    done = await broker.done(order)
    assert done.state is OrderState.CANCELLED
    assert {job.name: job.state for job in done.jobs} == {"a": JobState.CANCELLED, "z": JobState.FINISHED}
    assert broker.output[f"{order}.a"] == b"up\nstopping\n"


async def test_a_task_that_ignores_sigterm_is_killed(broker: StandIn) -> None:
    order = await broker.order([{"name": "a", "run": "trap '' TERM; sleep 100"}])
    await broker.first(order, records.Reported)
    await broker.cancel(order)
    assert (await broker.done(order)).state is OrderState.CANCELLED


async def test_a_long_task_is_reported_while_it_runs(broker: StandIn) -> None:
    order = await broker.order([{"name": "a", "uses": "noop"}, {"name": "b", "run": "sleep 0.6"}])
    shown = await broker.first(order, records.Reported)
    assert {job.name: job.state for job in shown.jobs} == {"a": JobState.FINISHED, "b": JobState.RUNNING}
    done = await broker.done(order)
    assert [job.name for job in done.jobs] == ["b"]


async def test_a_task_that_may_not_run_twice_is_reported_before_it_starts(broker: StandIn) -> None:
    order = await broker.order([{"name": "a", "uses": "noop", "idempotent": False}])
    await broker.done(order)
    assert [type(record) for record in broker.of(order)][1:] == [records.Claimed, records.Reported, records.Done]


async def test_a_waiting_order_gives_its_slot_back_and_goes_on(broker: StandIn) -> None:
    order = await broker.order([{"name": "a", "uses": "wait", "with": {"for": "1h"}}, {"name": "b", "uses": "noop"}])
    suspended = await broker.first(order, records.Suspended)
    assert suspended.jobs[0].state is JobState.SUSPENDED
    assert suspended.until is not None
    await broker.settled()


async def test_orders_run_side_by_side_up_to_the_slots(broker: StandIn, tmp_path: Path) -> None:
    up = tmp_path / "up"
    up.mkdir()
    run = f"echo > {up}/$$; until [ $(ls {up} | wc -l) = 4 ]; do sleep 0.05; done"
    orders = [await broker.order([{"name": "a", "run": run}]) for _ in range(4)]
    for order in orders:
        await broker.done(order)


async def test_more_orders_than_slots_wait_their_turn(broker: StandIn) -> None:
    await broker.element("e1", slots=1)
    orders = [await broker.order([{"name": "a", "run": "sleep 0.05"}]) for _ in range(8)]
    for order in orders:
        assert (await broker.done(order)).state is OrderState.FINISHED
    assert len(broker.of(orders[0], records.Claimed)) == 1
    await broker.settled()


async def test_outputs_too_large_for_a_record_fail_their_task_in_words(broker: StandIn) -> None:
    run = "python3 -c \"print('x=' + 300_000 * 'y')\" >> \"$MUSTER_OUTPUTS\""
    done = await broker.done(await broker.order([{"name": "a", "run": run}]))
    assert done.state is OrderState.FAILED
    assert "at most 262144 are kept" in done.reason


async def test_outputs_too_deep_for_a_record_fail_their_task_in_words(broker: StandIn) -> None:
    run = "python3 -c \"print('x=' + 150 * '[' + 150 * ']')\" >> \"$MUSTER_OUTPUTS\""
    done = await broker.done(await broker.order([{"name": "a", "run": run}]))
    assert done.state is OrderState.FAILED
    assert "nested more than 100 levels deep" in done.reason


async def test_outputs_too_many_for_an_order_fail_the_task_that_has_one_too_many(broker: StandIn) -> None:
    tasks = [{"name": f"t{n}", "uses": "noop", "with": {"outputs": {f"n{n}": "y" * 200_000}}} for n in range(24)]
    blueprint = await broker.blueprint({"tasks": tasks})
    packet = await broker.create(blueprint, element="e1")
    await broker.offer(packet)
    done = await broker.done(packet.order)
    assert done.state is OrderState.FAILED
    assert "task 't10' failed: its outputs are too large" in done.reason
    assert done.outputs.keys() == {f"n{n}" for n in range(10)}
