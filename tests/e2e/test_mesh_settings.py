"""The settings of a mesh that runs are followed without a restart."""

from __future__ import annotations

from pathlib import Path

import msgspec

from muster.mesh import names
from muster.mesh.connection import connect
from muster.mesh.messages import Assignment
from tests.kit import record
from tests.kit.blueprints import machine, witness, words
from tests.kit.processes import is_alive
from tests.kit.roles import Roles
from tests.kit.waiting import eventually


async def test_an_agent_follows_a_shorter_lease_without_a_restart(tmp_path: Path) -> None:
    """Cut off, it kills its tasks after two thirds of the lease of now, not of the one it started with."""
    async with Roles.started(tmp_path, "e1", lease="10m") as mesh:
        file = tmp_path / "lines"
        await mesh.apply(machine("e1"), witness("gated", "held", gated="held"))
        await mesh.order("gated", inputs={"file": str(file), "gate": f"{file}.gate"})
        await eventually(lambda: any(line.startswith("tick") for line in words(file)), 20, "a task that waits")
        pid = record.read_lines(file)[-1].pid
        await mesh.apply({"kind": "mesh", "name": "mesh", "lease": "2s"})
        async with connect(mesh.plain_url, name="test") as client:
            bucket = await client.jetstream().key_value(names.ASSIGNMENT_BUCKET)

            async def is_assigned() -> bool:
                return msgspec.json.decode((await bucket.get("e1")).value or b"", type=Assignment).lease == 2.0

            await eventually(is_assigned, 20, "the agent's new assignment")
        await mesh.kill("server")
        await eventually(lambda: not is_alive(pid), 30, "the end of a task whose lease ended")
        await mesh.start("server")
