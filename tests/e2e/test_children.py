"""Orders that make orders, and orders that wait: without a slot, to the end, and never for ever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.kit.blueprints import blueprint, script
from tests.kit.roles import Roles

pytestmark = pytest.mark.asyncio(loop_scope="session")


def child(name: str, blueprint: str, **more: Any) -> dict[str, Any]:
    """A task that makes an order."""
    return {"name": name, "uses": "order", "with": {"blueprint": blueprint, **more}}


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def blueprints(mesh: Roles) -> None:
    """Parents and children; `e2` has one slot."""
    await mesh.apply(
        blueprint(
            "add",
            script("add", 'echo "sum=$((INPUT_A + INPUT_B))" >> "$MUSTER_OUTPUTS"'),
            inputs={"a": {"type": "integer"}, "b": {"type": "integer", "default": 1}},
        ),
        blueprint("fails", script("fail", "exit 4")),
        blueprint("long", script("work", "sleep 300")),
        blueprint("pause", {"name": "pause", "uses": "wait", "with": {"for": "5200ms"}}, script("then", "true")),
        blueprint(
            "parent",
            child("first", "add", inputs={"a": 20, "b": 20}),
            child("second", "add", inputs={"a": "{{ tasks.first.outputs.sum }}", "b": 2}),
            script(
                "then", 'echo "answer=$(cat s)" >> "$MUSTER_OUTPUTS"', files={"s": "{{ tasks.second.outputs.sum }}"}
            ),
        ),
        blueprint("grandparent", child("down", "parent")),
        blueprint("of-failure", child("down", "fails"), script("never", "true")),
        blueprint("of-failure-twice", child("down", "fails") | {"retry": {"attempts": 2, "delay": "10ms"}}),
        blueprint("needs-file", script("test", 'test -e "$INPUT_FILE"'), inputs={"file": {}}),
        blueprint("of-file", child("down", "needs-file", inputs={"file": "{{ inputs.file }}"}), inputs={"file": {}}),
        blueprint("of-long", child("down", "long")),
        blueprint("impatient", child("down", "long") | {"timeout": "300ms", "retry": {"attempts": 2, "delay": "10ms"}}),
        blueprint("short-pause", {"name": "pause", "uses": "wait", "with": {"for": "1h"}, "timeout": "300ms"}),
    )


async def test_a_child_on_the_same_single_slot_is_no_deadlock(mesh: Roles) -> None:
    order = await mesh.run("parent", "e2")
    assert (order["state"], order["outputs"]["answer"]) == ("finished", 42)
    children = (await mesh.get("orders", parent=order["id"]))["items"]
    assert sorted(found["outputs"]["sum"] for found in children) == [40, 42]
    assert {found["element"] for found in children} == {"e2"}


async def test_children_may_have_children(mesh: Roles) -> None:
    assert (await mesh.run("grandparent", "e2"))["outputs"]["answer"] == 42


async def test_a_failed_child_fails_its_parent_and_says_why(mesh: Roles) -> None:
    order = await mesh.run("of-failure", "e2")
    assert order["state"] == "failed"
    assert "1 of 1 child orders did not finish" in order["reason"]
    assert "exit code 4" in order["reason"]
    assert [job["name"] for job in order["jobs"]] == ["down"]


async def test_a_retried_order_makes_its_failed_children_again(mesh: Roles, tmp_path: Path) -> None:
    file = tmp_path / "file"
    order = await mesh.run("of-file", "e2", inputs={"file": str(file)})
    assert order["state"] == "failed"
    for _ in range(2):  # the second time, two that failed are there
        await mesh.post(f"orders/{order['id']}/retry")
        assert (await mesh.final(order["id"]))["state"] == "failed"
    file.touch()
    await mesh.post(f"orders/{order['id']}/retry")
    assert (await mesh.final(order["id"]))["state"] == "finished"
    made = (await mesh.get("orders", parent=order["id"]))["items"]
    assert sorted(found["state"] for found in made) == ["failed", "failed", "failed", "finished"]


async def test_a_child_order_is_retried_as_often_as_its_task_says(mesh: Roles) -> None:
    order = await mesh.run("of-failure-twice", "e2")
    assert order["state"] == "failed"
    assert order["jobs"][0]["tries"] == 2
    assert len((await mesh.get("orders", parent=order["id"]))["items"]) == 2


async def test_a_cancelled_parent_takes_its_children_along(mesh: Roles) -> None:
    parent = await mesh.order("of-long", "e2")
    await mesh.until(parent, lambda found: found["state"] == "suspended")
    (down,) = (await mesh.get("orders", parent=parent))["items"]
    await mesh.until(down["id"], lambda found: found["state"] == "running")
    assert (await mesh.post(f"orders/{parent}/cancel"))["state"] == "cancelling"
    assert (await mesh.final(parent))["state"] == "cancelled"
    stopped = await mesh.final(down["id"])
    assert (stopped["state"], stopped["reason"]) == ("cancelled", f"cancelled by order {parent}")


async def test_a_child_order_ends_at_the_timeout_of_its_task(mesh: Roles) -> None:
    order = await mesh.run("impatient", "e2")
    assert (order["state"], order["jobs"][0]["error"]) == ("failed", "timed out after 300ms")
    children = (await mesh.get("orders", parent=order["id"]))["items"]
    assert len(children) == 2
    assert {(await mesh.final(child["id"]))["state"] for child in children} == {"cancelled"}


async def test_a_wait_ends_at_the_timeout_of_its_task(mesh: Roles) -> None:
    order = await mesh.run("short-pause", "e2")
    assert (order["state"], order["jobs"][0]["error"]) == ("failed", "timed out after 300ms")


async def test_blueprints_that_order_each_other_in_a_circle_are_refused(mesh: Roles) -> None:
    text = (
        b"{kind: blueprint, name: a, tasks: [{name: t, uses: order, with: {blueprint: b}}]}\n---\n"
        b"{kind: blueprint, name: b, tasks: [{name: t, uses: order, with: {blueprint: a}}]}\n"
    )
    ran = await mesh.cli("apply", "-f", "-", stdin=text)
    assert ran.code == 2, ran
    assert "a" in ran.stderr
    assert "b" in ran.stderr


async def test_a_long_wait_frees_its_slot(mesh: Roles) -> None:
    waits = await mesh.order("pause", "e2")
    found = await mesh.until(waits, lambda found: found["state"] == "suspended")
    assert found["reason"].startswith("waits until ")
    assert (await mesh.run("add", "e2", inputs={"a": 1}))["state"] == "finished"
    assert (await mesh.get(f"orders/{waits}"))["state"] == "suspended"
    found = await mesh.final(waits)
    assert [job["state"] for job in found["jobs"]] == ["finished", "finished"]
