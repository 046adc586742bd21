"""Messages that are not what a nats trigger's author thought of."""

from __future__ import annotations

from typing import Any

import pytest
from nats.js.api import StreamConfig

from muster.mesh.embedded_nats import EmbeddedNats
from muster.mesh.errors import MusterError, RefusedError
from muster.mesh.firing import FireRequest
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


@pytest.mark.parametrize("fields", [{}, {"stream": "SHOP"}], ids=str)
async def test_a_message_that_nobody_takes_does_not_end_the_listening(
    fresh_nats: EmbeddedNats, fields: dict[str, Any]
) -> None:
    async with mesh(fresh_nats) as (plane, triggers):
        await plane.js.add_stream(StreamConfig(name="SHOP", subjects=["shop.>"]))
        await plane.apply("n", "nats", subject="shop.a", **fields)
        await eventually(lambda: "n" in triggers.sources._runs)
        task, tried = triggers.sources._runs["n"].task, 0

        def refuse(request: FireRequest) -> MusterError | None:
            nonlocal tried
            tried += 1
            return RefusedError("never") if tried <= 2 else None

        async def fired() -> bool:
            await plane.client.publish("shop.a")
            return bool(plane.fired)

        plane.refuse = refuse
        await eventually(fired)
        assert (triggers.sources.trouble, triggers.sources._runs["n"].task, task.done()) == ({}, task, False)
