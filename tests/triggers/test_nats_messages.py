"""Messages that are not what a nats trigger's author thought of."""

from __future__ import annotations

import pytest

from muster.mesh.embedded_nats import EmbeddedNats
from tests.kit.waiting import eventually
from tests.triggers.test_sources import mesh, probed


@pytest.mark.parametrize("depth", [101, 900, 979, 100_000])
async def test_a_message_that_is_nested_too_deeply_makes_a_rejected_firing(
    fresh_nats: EmbeddedNats, depth: int
) -> None:
    async with mesh(fresh_nats) as (plane, _):
        await plane.apply("n", "nats", subject="shop.a")
        await probed(plane, "shop.a")
        await plane.client.publish("shop.a", b"[" * depth + b"]" * depth)
        await eventually(lambda: len(plane.fired) == 2)
        assert "more than 100 levels" in plane.fired[-1].rejected
        assert plane.fired[-1].event["body"].startswith("[[[")
        await plane.client.publish("shop.a", b"[" * 100 + b"]" * 100)
        await eventually(lambda: len(plane.fired) == 3)
        assert not plane.fired[-1].rejected
