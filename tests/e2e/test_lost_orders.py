"""Orders that lose their agents, in a mesh of real processes: how they end, and that they clean up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.kit.blueprints import blueprint, machine, script, words
from tests.kit.roles import Roles
from tests.kit.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

GONE = "lost: its agent was gone 3 times while it ran"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Roles]:
    """A mesh of this file's own, because it breaks it; with a short lease."""
    async with Roles.started(tmp_path_factory.mktemp("mesh"), "e1", lease="1s") as mesh:
        works = "echo tick >> $INPUT_FILE; sleep 300"
        note = {
            "on_failure": [script("note", "echo failure >> $INPUT_FILE")],
            "always": [script("tidy", "echo always >> $INPUT_FILE")],
        }
        inputs = {"file": {"type": "string"}}
        await mesh.apply(
            machine("e1", slots=4),
            blueprint("long", script("first", "true"), script("works", works), inputs=inputs, **note),
            blueprint("bare", script("works", works), inputs=inputs),
            blueprint("once", {**script("works", works), "idempotent": False}, inputs=inputs, **note),
        )
        yield mesh


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """What the tasks write."""
    return tmp_path / "lines"


async def begun(mesh: Roles, file: Path, blueprint: str, ticks: int = 1) -> str:
    """An order whose task has started."""
    order = await mesh.order(blueprint, inputs={"file": str(file)})
    await ticked(mesh, file, order, ticks)
    return order


async def ticked(mesh: Roles, file: Path, order: str, ticks: int) -> None:
    """Waits until its task has started so often, and it is recorded."""
    await eventually(lambda: words(file).count("tick") == ticks, what="a task that runs")
    await mesh.until(order, lambda found: found["jobs"] and found["jobs"][-1]["state"] == "running")


async def kill_thrice(mesh: Roles, file: Path, order: str) -> dict[str, Any]:
    """The order, once its agent died three times with it and was started anew each time."""
    for time in range(3):
        await ticked(mesh, file, order, time + 1)
        await mesh.restart("e1")
    return await mesh.final(order)


async def test_an_order_that_kills_its_agents_fails_and_cleans_up(mesh: Roles, file: Path) -> None:
    order = await mesh.order("long", inputs={"file": str(file)})
    found = await kill_thrice(mesh, file, order)
    assert (found["state"], found["reason"]) == ("failed", GONE)
    assert words(file) == ["tick", "tick", "tick", "failure", "always"]
    assert {job["name"]: job["state"] for job in found["jobs"]} == {
        "first": "finished",
        "works": "failed",
        "note": "finished",
        "tidy": "finished",
    }
    reported = (await mesh.cli("explain", order)).stdout
    assert "Lost attempts" in reported
    assert [(loss["attempt"], loss["element"]) for loss in found["losses"]] == [(1, "e1"), (2, "e1"), (3, "e1")]
    assert [event["data"]["attempt"] for event in await mesh.events("order.lost") if event["subject"] == order] == [
        1,
        2,
        3,
    ]


async def test_a_retry_of_such_an_order_begins_anew(mesh: Roles, file: Path) -> None:
    order = await mesh.order("bare", inputs={"file": str(file)})
    assert (await kill_thrice(mesh, file, order))["reason"] == GONE
    await mesh.post(f"orders/{order}/retry")
    await ticked(mesh, file, order, 4)
    await mesh.restart("e1")
    await ticked(mesh, file, order, 5)
    await mesh.post(f"orders/{order}/cancel")
    assert (await mesh.final(order))["state"] == "cancelled"


async def test_an_order_that_must_not_run_twice_cleans_up_when_its_agent_is_back(mesh: Roles, file: Path) -> None:
    order = await begun(mesh, file, "once")
    await mesh.kill("e1")
    waits = await mesh.until(order, lambda found: found["state"] == "offered")
    assert "must not run twice" in waits["reason"]
    await mesh.start("e1")
    found = await mesh.final(order)
    assert (found["state"], found["reason"]) == ("failed", waits["ending"]["reason"])
    assert words(file) == ["tick", "failure", "always"]


async def test_a_cancelled_order_whose_agent_dies_cleans_up_when_it_is_back(mesh: Roles, file: Path) -> None:
    order = await begun(mesh, file, "long")
    await mesh.kill("e1")
    await mesh.post(f"orders/{order}/cancel")
    await mesh.start("e1")
    found = await mesh.final(order)
    assert (found["state"], found["reason"]) == ("cancelled", "cancelled by http")
    assert words(file) == ["tick", "always"]


async def test_an_order_ends_though_nobody_comes_back_to_clean_up(mesh: Roles, file: Path) -> None:
    order = await begun(mesh, file, "once")
    await mesh.kill("e1")
    found = await mesh.final(order, within=60)
    assert found["state"] == "failed"
    assert found["reason"].endswith("; its clean-up did not run: e1 did not take it in 20 s")
    await mesh.start("e1")
    assert words(file) == ["tick"]
