"""6. Everything that happens can be watched, by people and by programs."""

from __future__ import annotations

import json

from tests.kit.meshes import Mesh
from tests.story.conftest import Say


async def test_events_are_watched_as_lines_of_json(muster: Say, mesh: Mesh) -> None:
    async with mesh.running("events", "--kind", "order", "--after", "0", "-o", "json") as watching:
        order = json.loads(await muster(f"run hello --on {mesh.element} --wait -o json"))["orders"][0]["id"]
        for kind in ("order.created", "order.running", "order.finished"):
            await watching.line(f'"{kind}","subject":"{order}"')


async def test_quick_orders_are_followed_to_their_end_every_time(muster: Say, mesh: Mesh) -> None:
    for _ in range(5):
        shown = await muster(f"run hello --on {mesh.element} --follow --timeout 10s")
        assert "Hello from" in shown
        assert "finished" in shown
