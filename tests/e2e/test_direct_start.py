"""An order that started with its first record, and whose only broker dies before it can do any more for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from muster.mesh import names
from muster.mesh.connection import connect
from tests.kit import record
from tests.kit.blueprints import blueprint, machine, script
from tests.kit.roles import Roles
from tests.kit.waiting import eventually

pytestmark = pytest.mark.slow

LEASE = 6.0
"""Seconds; an agent kills what it runs after two thirds of that without a renewal."""


async def test_an_order_goes_on_though_its_only_broker_dies_right_after_its_start(tmp_path: Path) -> None:
    async with Roles.started(tmp_path / "mesh", "e1", lease=f"{LEASE:g}s") as mesh:
        lines = tmp_path / "lines"
        run = f"echo start >> {lines}; sleep {LEASE * 1.5}; echo end >> {lines}"
        await mesh.apply(machine("e1"), blueprint("long", script("a", run)))
        await mesh.online("e1")
        order = await mesh.order("long")
        await mesh.kill("broker")
        async with connect(mesh.plain_url, name="test") as client:
            work = client.jetstream()

            async def messages() -> int:
                return int((await work.stream_info(names.WORK_STREAM)).state.last_seq)

            assert await messages() == 0, "the broker has published the order's message before it died: kill it earlier"
            await eventually(lambda: lines.exists() and "end" in lines.read_text(), within=LEASE * 1.5 + 15)
        await mesh.start("broker")
        found = await mesh.final(order)
        assert (found["state"], found["attempt"]) == ("finished", 1)
        assert lines.read_text().split() == ["start", "end"]
        replayed = await record.replay(mesh.plain_url)
        record.check_endings(replayed, replayed.created)
