"""No space for the tables: it is reported, nothing is lost, and all continues once there is space."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from tests.kit import record
from tests.kit.blueprints import blueprint, script, words
from tests.kit.processes import Program
from tests.kit.roles import Roles
from tests.kit.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="function")]


def room(program: Program, size: int) -> None:
    """Let a process and its children write files no larger than this; beyond, each write fails, as on a full disk."""
    for process in program.tree():
        _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, hard))


async def test_orders_go_on_while_the_tables_cannot_be_written(tmp_path: Path) -> None:
    async with Roles.started(tmp_path, "e1", lease="30s") as mesh:
        file = tmp_path / "ran"
        await mesh.apply(blueprint("work", script("work", f"echo $MUSTER_ORDER >> {file}")))
        first = await mesh.run("work")
        broker = mesh.programs["broker"]
        room(broker, 1)
        orders = [await mesh.order("work") for _ in range(3)]
        await eventually(lambda: words(file) == [first["id"], *orders], what="three more orders that ran")

        async def shown() -> str:
            answer = await mesh.http.get("/readyz")
            assert answer.status_code == 503
            return answer.text

        said = await eventually(shown, what="a broker that says it is stuck")
        assert "cannot be written" in said
        assert "nothing is lost" in said
        assert (await mesh.http.get("/healthz")).status_code == 200
        diagnosis = (await mesh.cli("doctor")).stdout
        assert "cannot be written" in " ".join(diagnosis.split())
        await mesh.restart("e1")  # an agent needs no tables
        room(broker, resource.RLIM_INFINITY)
        for order in orders:
            assert (await mesh.final(order))["state"] == "finished"
        assert (await mesh.http.get("/readyz")).status_code == 200
        await mesh.quiet()
        before, after = await mesh.rebuilt()
        assert not record.difference(before, after)
        record.check_endings(await record.replay(mesh.plain_url), [first["id"], *orders])
