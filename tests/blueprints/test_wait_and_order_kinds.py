"""Waiting without a slot, child orders, and doing nothing."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.blueprints.definition import Task, duration, moment
from muster.blueprints.kinds import task_kinds
from muster.blueprints.task import Done, Failed, Suspended
from muster.mesh.errors import InvalidError, NotFoundError, RefusedError
from muster.mesh.model import Child, OrderState
from tests.blueprints.context import run_task

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def wait(**fields: Any) -> Task:
    return Task(name="w", uses="wait", with_=fields)


def order(**fields: Any) -> Task:
    return Task(name="o", uses="order", with_={"blueprint": "child", **fields})


async def test_a_long_wait_gives_its_slot_back_and_keeps_to_its_end(tmp_path: Path) -> None:
    outcome, _ = await run_task(wait(**{"for": "10m"}), tmp_path, now=NOW)
    assert isinstance(outcome, Suspended)
    assert outcome.until == NOW + timedelta(minutes=10)
    early, _ = await run_task(wait(**{"for": "10m"}), tmp_path, now=NOW + timedelta(minutes=9), memo=outcome.memo)
    assert isinstance(early, Suspended)
    assert early.until == outcome.until
    late, _ = await run_task(wait(**{"for": "10m"}), tmp_path, now=NOW + timedelta(minutes=11), memo=outcome.memo)
    assert late == Done(outputs={"until": "2026-01-01T00:10:00Z"})


async def test_a_short_wait_and_a_time_that_has_come_end_at_once(tmp_path: Path) -> None:
    assert isinstance((await run_task(wait(**{"for": "10ms"}), tmp_path, now=NOW))[0], Done)
    assert isinstance((await run_task(wait(until="2025-12-31T23:00:00+01:00"), tmp_path, now=NOW))[0], Done)


@pytest.mark.parametrize(
    "fields", [{}, {"for": "soon"}, {"until": "2030-01-01"}, {"for": "1m", "until": "x"}, {"for": 5}]
)
async def test_a_wait_for_nothing_known_fails_for_good(tmp_path: Path, fields: dict[str, Any]) -> None:
    outcome, _ = await run_task(wait(**fields), tmp_path)
    assert isinstance(outcome, Failed)
    assert outcome.final


async def test_child_orders_are_made_once_and_waited_for(tmp_path: Path) -> None:
    outcome, context = await run_task(order(inputs={"a": 1}), tmp_path, job="deploy")
    assert outcome == Suspended(children=True, orders=("deploy-0",), memo={"orders": ["deploy-0"]})
    (request,) = context.requests
    assert (request.on, request.inputs, request.parent) == ("web01", {"a": 1}, "order1")
    children = {"deploy-0": Child(state=OrderState.RUNNING)}
    again, context = await run_task(order(), tmp_path, job="deploy", memo=outcome.memo, children=children)
    assert isinstance(again, Suspended)
    assert context.requests == []


async def test_an_only_childs_outputs_are_the_tasks_own(tmp_path: Path) -> None:
    children = {"o-0": Child(state=OrderState.FINISHED, outputs={"used": 1})}
    outcome, _ = await run_task(order(on="db01"), tmp_path, job="o", memo={"orders": ["o-0"]}, children=children)
    orders = [{"id": "o-0", "state": "finished", "outputs": {"used": 1}}]
    assert outcome == Done(outputs={"used": 1, "orders": orders})


async def test_of_many_children_only_their_states_are_kept(tmp_path: Path) -> None:
    children = {f"o-{n}": Child(state=OrderState.FINISHED, outputs={"report": "x" * 2000}) for n in range(150)}
    outcome, _ = await run_task(order(), tmp_path, job="o", memo={"orders": list(children)}, children=children)
    assert isinstance(outcome, Done)
    assert outcome.outputs["orders"][0] == {"id": "o-0", "state": "finished"}


async def test_a_failed_child_fails_the_task_by_name(tmp_path: Path) -> None:
    children = {
        "o-0": Child(state=OrderState.FINISHED),
        "o-1": Child(state=OrderState.FAILED, reason="exit code 1"),
        "o-2": Child(state=OrderState.CANCELLED),
    }
    task = order(where="true", count=3)
    outcome, _ = await run_task(task, tmp_path, job="o", memo={"orders": list(children)}, children=children)
    assert isinstance(outcome, Failed)
    assert outcome.error == "2 of 3 child orders did not finish: o-1 failed: exit code 1; o-2 cancelled"
    assert len(outcome.outputs["orders"]) == 3


@pytest.mark.parametrize("where", ['element.labels.role == "{{ inputs.role }}"', "{{ inputs.where }}", "true {# x #}"])
def test_data_cannot_become_a_part_of_a_filter(where: str) -> None:
    (problem,) = task_kinds()["order"].check(order(where=where), "tasks[0]")
    assert problem.path == "tasks[0].with.where"
    assert "no template" in problem.message


async def test_a_new_try_makes_failed_children_anew_and_keeps_running_ones(tmp_path: Path) -> None:
    for state in (OrderState.FAILED, OrderState.CANCELLED, OrderState.CANCELLING):
        children = {"o-0": Child(state=state)}
        outcome, _ = await run_task(order(), tmp_path, job="o", attempt=2, children=children)
        assert outcome == Suspended(children=True, orders=("o#2-0",), memo={"orders": ["o#2-0"]})
    running = {"o-0": Child(state=OrderState.RUNNING)}
    outcome, _ = await run_task(order(), tmp_path, job="o", attempt=2, children=running)
    assert outcome == Suspended(children=True, orders=("o-0",), memo={"orders": ["o-0"]})


async def test_an_order_need_not_be_waited_for(tmp_path: Path) -> None:
    outcome, _ = await run_task(order(pool="web", wait=False), tmp_path, job="o")
    assert outcome == Done(outputs={"orders": [{"id": "o-0"}]})


@pytest.mark.parametrize(
    ("error", "final"), [(InvalidError("no"), True), (NotFoundError("no"), True), (RefusedError("not now"), False)]
)
async def test_a_refused_child_order_fails_the_task(tmp_path: Path, error: Any, final: bool) -> None:
    outcome, _ = await run_task(order(), tmp_path, refuses=error)
    assert isinstance(outcome, Failed)
    assert outcome.final is final


async def test_noop_says_what_it_is_asked(tmp_path: Path) -> None:
    outcome, _ = await run_task(Task(name="n", uses="noop", with_={"outputs": {"a": 1}}), tmp_path)
    assert outcome == Done(outputs={"a": 1})


def test_kinds_are_found_by_entry_point_and_made_once() -> None:
    kinds = task_kinds()
    assert set(kinds) >= {"script", "http", "wait", "order", "noop"}
    assert kinds["noop"] is kinds["noop"]
    assert "nope" not in kinds
    with pytest.raises(KeyError):
        kinds["nope"]


@given(st.integers(0, 400), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_a_duration_is_the_sum_of_its_parts(days: int, hours: int, minutes: int, seconds: int, milli: int) -> None:
    text = f"{days}d{hours}h{minutes}m{seconds}s{milli}ms"
    whole = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds, milliseconds=milli)
    assert abs(duration(text) - whole) < timedelta(microseconds=2)


@given(st.text(max_size=20))
def test_any_text_is_a_duration_and_a_time_or_neither(text: str) -> None:
    for read in (duration, moment):
        with suppress(ValueError):
            read(text)


@pytest.mark.parametrize("text", ["99999999999999d", "9" * 400 + "s", "9" * 400 + "ms"])
def test_a_duration_beyond_all_time_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="is longer than"):
        duration(text)


@pytest.mark.parametrize("fields", [{"uses": "wait", "for": "99999999999999d"},
                                    {"uses": "http", "url": "http://x", "timeout": "99999999999999d"}])  # fmt: skip
def test_a_task_with_a_duration_beyond_all_time_is_reported(fields: dict[str, Any]) -> None:
    task = Task(name="t", uses=fields.pop("uses"), with_=fields)
    (problem,) = task_kinds()[task.uses].check(task, "t")
    assert "is longer than" in problem.message
