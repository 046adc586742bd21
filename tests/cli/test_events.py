from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.meshes import OBEY, Mesh, mesh_of_its_own
from tests.kit.waiting import eventually

pytestmark = pytest.mark.slow


async def test_watching_goes_on_where_it_was_when_the_broker_comes_back(tmp_path: Path) -> None:
    """Nothing that happened meanwhile is missed, and nothing is reported twice."""
    async with (
        mesh_of_its_own(tmp_path) as (program, mesh),
        mesh.running("events", "--kind", "order.finished") as events,
    ):
        await events.line("watching", stream="err")
        await mesh.ok("run", "hello", "--on", mesh.element, "--wait")
        await events.line("order.finished")
        broker = next(process for process in program.tree() if "broker" in process.cmdline()[:5])
        broker.kill()
        await events.line("trying again", stream="err")
        await eventually(lambda: _ran(mesh), within=30, what="an order that can run again")
        await events.line("connected again", stream="err")
        await eventually(lambda: len(events.lines["out"]) == 2, what="the second order's event")


async def _ran(mesh: Mesh) -> bool:
    ran = await mesh.muster("run", "hello", "--on", mesh.element, "--wait")
    return ran.code == 0


async def test_waiting_for_an_order_outlives_the_broker(tmp_path: Path) -> None:
    async with mesh_of_its_own(tmp_path) as (program, mesh):
        await mesh.ok("apply", "-f", str(OBEY))
        order = ["run", "obey", "--on", mesh.element, "-i", "how=append", "-i", "seconds=2"]
        for mode in ("--wait", "--follow"):
            async with mesh.running(*order, mode, "-i", f"file={tmp_path / mode}") as waiting:
                await eventually((tmp_path / mode).exists, what="the order's start")
                next(process for process in program.tree() if "broker" in process.cmdline()[:5]).kill()
                assert await waiting.ended(40) == 0, waiting
                assert "finished" in waiting.stdout
