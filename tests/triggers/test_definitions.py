from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from muster.mesh.asking import Requests
from muster.mesh.connection import connect
from muster.mesh.embedded_nats import EmbeddedNats, NatsSettings
from muster.mesh.errors import NotFoundError, UnavailableError
from muster.triggers.definitions import Definitions, Trigger
from tests.kit.ports import free_port
from tests.kit.servers import Nats
from tests.kit.waiting import eventually
from tests.triggers.control_plane import control_plane


class Received:
    """What a listener has received."""

    def __init__(self) -> None:
        self.active: dict[str, int] = {}
        self.calls: list[tuple[str, int | None]] = []

    def __call__(self, name: str, trigger: Trigger | None) -> None:
        self.calls.append((name, trigger.version if trigger else None))
        if trigger is None:
            del self.active[name]
        else:
            self.active[name] = trigger.version


@asynccontextmanager
async def following(server: str) -> AsyncIterator[tuple[Definitions, Received]]:
    reported = Received()
    services: list[Requests | Definitions] = []

    def renew() -> None:
        for service in services:
            service.renew()

    async with connect(server, name="triggers", on_reconnect=renew) as client, Requests(client) as requests:
        definitions = Definitions(client, requests)
        services += [requests, definitions]
        definitions.listeners.append(reported)
        async with definitions:
            yield definitions, reported


async def test_what_was_defined_before_is_known_once_it_is_ready(fresh_nats: Nats) -> None:
    async with control_plane(fresh_nats.url) as plane:
        for number in range(3):
            await plane.apply(f"t{number}", "webhook")
        await plane.delete("t1")
        await plane.apply("off", "webhook", enabled=False)
        async with following(fresh_nats.url) as (definitions, reported):
            assert reported.active == {"t0": 1, "t2": 1}
            assert definitions.known("t0") is not None
            assert definitions.known("off") is None


async def test_every_change_is_reported_at_once_and_in_order(fresh_nats: Nats) -> None:
    async with control_plane(fresh_nats.url) as plane, following(fresh_nats.url) as (_, reported):
        await plane.apply("a.b", "webhook")
        await plane.apply("a.b", "webhook", max_body=10)
        await plane.apply("a.b", "webhook", enabled=False)
        await plane.apply("a.b", "webhook")
        await plane.delete("a.b")
        wanted = [("a.b", 1), ("a.b", 2), ("a.b", None), ("a.b", 4), ("a.b", None)]
        await eventually(lambda: reported.calls == wanted, what="every change")


async def test_a_trigger_that_the_bucket_does_not_have_yet_is_requested(fresh_nats: Nats) -> None:
    async with control_plane(fresh_nats.url) as plane, following(fresh_nats.url) as (definitions, reported):
        await plane.apply("early", "webhook", bucket=False)
        assert (await definitions.get("early")).version == 1
        assert reported.calls == [("early", 1)]
        await plane.apply("early", "webhook", bucket=False)
        assert (await definitions.get("early")).version == 1
        assert (await definitions.refreshed("early")).version == 2
        del plane.definitions["early"]
        with pytest.raises(NotFoundError):
            await definitions.refreshed("early")
        assert reported.calls == [("early", 1), ("early", 2), ("early", None)]


async def test_an_older_definition_from_the_bucket_does_not_undo_a_newer_one(fresh_nats: Nats) -> None:
    async with control_plane(fresh_nats.url) as plane, following(fresh_nats.url) as (definitions, reported):
        old = await plane.apply("t", "webhook", bucket=False)
        new = await plane.apply("t", "webhook", bucket=False)
        assert (await definitions.get("t")).version == 2
        for late in (old, new):
            plane.definitions.pop("t")
            plane.definitions["t"] = late
        await plane.apply("mark", "webhook")
        await eventually(lambda: "mark" in reported.active)
        assert reported.active["t"] == 2


async def test_a_definition_counts_also_after_the_server_s_clock_was_set_back(fresh_nats: Nats) -> None:
    async with control_plane(fresh_nats.url) as plane, following(fresh_nats.url) as (_, reported):
        first = await plane.apply("t", "webhook")
        await plane.apply("t", "webhook", at=first.changed_at - timedelta(minutes=10))
        await eventually(lambda: reported.active.get("t") == 2, what="the second version")


async def test_missing_disabled_and_unusable_triggers_are_distinguished(fresh_nats: Nats) -> None:
    async with control_plane(fresh_nats.url) as plane, following(fresh_nats.url) as (definitions, reported):
        await plane.apply("off", "webhook", enabled=False)
        await plane.apply("strange", "fax")
        await plane.apply("newer", "webhook", colour="red")
        for name, why in {"none": "no trigger", "off": "disabled", "strange": "'fax'", "newer": "colour"}.items():
            with pytest.raises(NotFoundError, match=why):
                await definitions.get(name)
        assert not reported.active


async def test_without_a_broker_no_trigger_is_reported_as_missing(fresh_nats: Nats) -> None:
    async with control_plane(fresh_nats.url) as plane, following(fresh_nats.url) as (definitions, _):
        await plane.close()
        with pytest.raises(UnavailableError, match="no broker answers"):
            await definitions.get("none")


async def test_a_service_waits_for_the_bucket_to_be_made(fresh_nats: Nats) -> None:
    async with (
        control_plane(fresh_nats.url, opened=False) as plane,
        connect(fresh_nats.url, name="t") as client,
        Requests(client) as requests,
        asyncio.TaskGroup() as group,
    ):
        definitions = Definitions(client, requests)
        entering = group.create_task(definitions.__aenter__())
        await plane.open()
        await plane.apply("t", "webhook")
        await entering
        await eventually(lambda: definitions.known("t"), what="the trigger")
        await definitions.__aexit__(None, None, None)


async def test_a_server_that_is_killed_and_started_again_costs_no_change(tmp_path: Path) -> None:
    settings = NatsSettings(folder=tmp_path / "nats", port=free_port(), durability="fast")
    async with AsyncExitStack() as stack:
        async with EmbeddedNats(settings) as server:
            plane = await stack.enter_async_context(control_plane(server.url))
            definitions, reported = await stack.enter_async_context(following(server.url))
            await plane.apply("kept", "webhook")
            await plane.apply("gone", "webhook")
            await eventually(lambda: reported.active == {"kept": 1, "gone": 1})
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
        async with EmbeddedNats(settings):
            await eventually(lambda: plane.client.is_connected, what="the connection")
            await plane.apply("new", "webhook")
            await plane.delete("gone")
            await eventually(lambda: reported.active == {"kept": 1, "new": 1}, 15, "the changes after the restart")
            assert reported.calls.count(("kept", 1)) == 1
            assert definitions.known("kept") is not None
            await stack.aclose()
