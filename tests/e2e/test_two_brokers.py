"""Two brokers on one server: either answers, and when one is killed the other continues."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit import record
from tests.kit.blueprints import blueprint, script
from tests.kit.roles import Client, Roles
from tests.kit.waiting import eventually

pytestmark = pytest.mark.slow


async def test_the_second_broker_answers_and_takes_over(tmp_path: Path) -> None:
    async with Roles.started(tmp_path, "e1") as mesh:
        port = await mesh.another_broker()
        second = Client(
            f"http://127.0.0.1:{port}",
            mesh.env | {"MUSTER_API": f"http://127.0.0.1:{port}"},
            tmp_path / "broker2" / "api.token",
        )
        await mesh.apply(blueprint("work", script("work", "echo $MUSTER_ORDER")))
        order = await second.order("work")
        assert (await mesh.final(order))["state"] == "finished"
        assert await second.get(f"orders/{order}") == await mesh.get(f"orders/{order}")

        pending = [await mesh.order("work") for _ in range(3)]
        await mesh.kill("broker")
        more = [await second.order("work") for _ in range(3)]
        for made in (*pending, *more):
            assert (await second.final(made))["state"] == "finished"
        assert await second.output(more[0]) == f"{more[0]}\n".encode()

        await mesh.start("broker")

        async def same() -> bool:
            with_first, with_second = await mesh.get("orders"), await second.get("orders")
            return bool(with_first == with_second)

        await eventually(same, what="the same record at both")
        await second.http.aclose()
        record.check_endings(await record.replay(mesh.plain_url), [order, *pending, *more])
