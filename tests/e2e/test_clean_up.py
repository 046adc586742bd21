"""`always` runs whenever a task of the order has run, also of an order that nobody runs just now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.kit.blueprints import blueprint, script
from tests.kit.roles import Roles

pytestmark = pytest.mark.asyncio(loop_scope="session")

PAUSE = {"name": "pause", "uses": "wait", "with": {"for": "10m"}}
CHILD = {"name": "down", "uses": "order", "with": {"blueprint": "c-long"}}


async def suspended(mesh: Roles, lock: Path, task: dict[str, Any]) -> str:
    """An order that holds a lock and waits."""
    always = [script("unlock", f"rm {lock}")]
    await mesh.apply(
        blueprint("c-long", script("work", "sleep 300")),
        blueprint("c-lock", script("lock", f"touch {lock}"), task, always=always),
    )
    order = await mesh.order("c-lock", "e2")
    await mesh.until(order, lambda found: found["state"] == "suspended")
    return order


@pytest.mark.parametrize("task", [PAUSE, CHILD], ids=["wait", "child"])
async def test_always_runs_when_a_suspended_order_is_cancelled(
    mesh: Roles, tmp_path: Path, task: dict[str, Any]
) -> None:
    order = await suspended(mesh, tmp_path / "lock", task)
    await mesh.post(f"orders/{order}/cancel")
    ended = await mesh.final(order)
    assert (ended["state"], ended["reason"]) == ("cancelled", "cancelled by http")
    assert {job["name"]: job["state"] for job in ended["jobs"]} == {
        "lock": "finished",
        task["name"]: "cancelled",
        "unlock": "finished",
    }
    assert not (tmp_path / "lock").exists()


async def test_a_second_cancel_does_not_wait_for_always(mesh: Roles, tmp_path: Path) -> None:
    order = await suspended(mesh, tmp_path / "lock", PAUSE)
    assert (await mesh.cli("drain", "e2")).code == 0
    try:
        first = await mesh.post(f"orders/{order}/cancel")
        assert (first["state"], first["reason"]) == ("queued", "drained")
        assert (await mesh.post(f"orders/{order}/cancel"))["state"] == "cancelled"
    finally:
        assert (await mesh.cli("undrain", "e2")).code == 0
