"""Messages for nats triggers that are changed meanwhile, that nobody takes, or that are in a queue of work."""

from __future__ import annotations

from typing import Any

import pytest
from nats.js.api import RetentionPolicy, StreamConfig

from muster.mesh.errors import MusterError, RefusedError, UnavailableError
from muster.mesh.firing import FireRequest
from muster.triggers.providers import nats
from tests.kit.servers import Nats
from tests.kit.waiting import eventually
from tests.triggers.control_plane import ControlPlane, control_plane
from tests.triggers.test_sources import consumers, mesh, probed, service


@pytest.mark.parametrize("depth", [101, 900, 979, 100_000])
async def test_a_message_that_is_nested_too_deeply_makes_a_rejected_firing(fresh_nats: Nats, depth: int) -> None:
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


async def test_headers_that_hold_secrets_do_not_come_on_the_record(fresh_nats: Nats) -> None:
    async with mesh(fresh_nats) as (plane, _):
        await plane.apply("n", "nats", subject="shop.a")
        await probed(plane, "shop.a")
        headers = {"Authorization": "Bearer s3cret", "X-Api-Key": "s3cret", "X-Who": "me"}
        await plane.client.publish("shop.a", headers=headers)
        await eventually(lambda: len(plane.fired) == 2)
        assert plane.fired[-1].event["headers"] == {"x-who": "me"}


@pytest.mark.parametrize("fields", [{}, {"stream": "SHOP"}], ids=str)
async def test_a_message_that_nobody_takes_does_not_end_the_listening(fresh_nats: Nats, fields: dict[str, Any]) -> None:
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


def bodies(plane: ControlPlane) -> list[Any]:
    return sorted(request.event["body"] for request in plane.fired)


async def test_what_waits_in_a_stream_survives_another_limit(fresh_nats: Nats) -> None:
    async with control_plane(fresh_nats.url) as plane:
        await plane.js.add_stream(StreamConfig(name="SHOP", subjects=["shop.>"]))
        await plane.apply("n", "nats", subject="shop.a", stream="SHOP")
        async with service(plane):
            await plane.js.publish("shop.a", b"0")
            await eventually(lambda: bodies(plane) == [0])
        for number in range(1, 6):
            await plane.js.publish("shop.a", str(number).encode())
        await plane.apply("n", "nats", subject="shop.a", stream="SHOP", max_body=2_000_000)
        async with service(plane):
            await eventually(lambda: bodies(plane) == [*range(6)], what="what came while nobody ran")


async def test_what_is_under_way_survives_another_limit(fresh_nats: Nats, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nats, "ACK_WAIT", 1.0)
    async with mesh(fresh_nats) as (plane, _):
        await plane.js.add_stream(StreamConfig(name="SHOP", subjects=["shop.>"]))
        await plane.apply("n", "nats", subject="shop.a", stream="SHOP")
        plane.refuse = lambda _: UnavailableError("busy")
        for number in range(5):
            await plane.js.publish("shop.a", str(number).encode())
        await eventually(lambda: len(plane.attempts) >= 5)
        (before,) = await consumers(plane.client, "SHOP")
        await plane.apply("n", "nats", subject="shop.a", stream="SHOP", max_body=2_000_000)
        plane.refuse = lambda _: None
        await eventually(lambda: bodies(plane) == [*range(5)], what="what nobody had acknowledged")
        (after,) = await consumers(plane.client, "SHOP")
        assert after.created == before.created


async def test_a_stream_that_is_a_queue_of_work_is_read_from_its_start(fresh_nats: Nats) -> None:
    async with mesh(fresh_nats) as (plane, triggers):
        config = StreamConfig(name="JOBS", subjects=["jobs.>"], retention=RetentionPolicy.WORK_QUEUE)
        await plane.js.add_stream(config)
        await plane.js.publish("jobs.a", b"1")
        await plane.apply("n", "nats", subject="jobs.>", stream="JOBS")
        await plane.js.publish("jobs.b", b"2")
        await eventually(lambda: bodies(plane) == [1, 2])
        assert not triggers.sources.trouble
