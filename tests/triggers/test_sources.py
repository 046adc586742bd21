"""Triggers that listen: event and nats, and somebody else's, before a stand-in of a broker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar

import msgspec
import pytest
from nats.aio.client import Client
from nats.js.api import ConsumerInfo, StreamConfig
from nats.js.kv import KeyValue

from muster.blueprints import provider
from muster.blueprints.provider import Happening, Mesh, Source
from muster.mesh import names
from muster.mesh.connection import connect
from muster.mesh.errors import TooLargeError
from muster.mesh.firing import FiringState
from muster.triggers import definitions, events, leftovers
from muster.triggers.events import Reader
from muster.triggers.service import Triggers
from tests.kit.servers import Nats
from tests.kit.waiting import eventually
from tests.triggers.control_plane import ControlPlane, control_plane


class Moody(Source):
    """Fires when asked to; fails when asked to."""

    orders: ClassVar[asyncio.Queue[str]]
    running: ClassVar[list[str]] = []
    fails: bool = False

    async def run(self, mesh: Mesh) -> None:
        self.running.append(mesh.trigger)
        try:
            while True:
                reported = await self.orders.get()
                if reported == "leak":  # as one does that awaits a task which somebody else cancelled
                    raise asyncio.CancelledError
                if reported == "fail":
                    raise RuntimeError("it is in a bad mood")
                await mesh.fire(Happening(event={"reported": reported}, key=reported))
        finally:
            self.running.remove(mesh.trigger)


@pytest.fixture
def moody(monkeypatch: pytest.MonkeyPatch) -> type[Moody]:
    """Installed, and without orders."""
    Moody.orders = asyncio.Queue()
    Moody.running.clear()
    kinds = MappingProxyType({**provider.provider_kinds(), "moody": Moody})
    for module in (definitions, leftovers):
        monkeypatch.setattr(module, "provider_kinds", lambda: kinds)
    return Moody


@asynccontextmanager
async def service(plane: ControlPlane) -> AsyncIterator[Triggers]:
    """A trigger service on the stand-in's server."""
    found: list[Triggers] = []

    def renew() -> None:
        for triggers in found:
            triggers.renew()

    server = plane.client.connected_url
    assert server is not None
    async with connect(f"nats://{server.netloc}", name="triggers", on_reconnect=renew) as client:
        found.append(Triggers(client))
        async with found[0]:
            yield found[0]


@asynccontextmanager
async def mesh(server: Nats) -> AsyncIterator[tuple[ControlPlane, Triggers]]:
    async with control_plane(server.url) as plane, service(plane) as triggers:
        yield plane, triggers


async def test_a_source_that_fails_is_reported_and_started_again(fresh_nats: Nats, moody: type[Moody]) -> None:
    async with mesh(fresh_nats) as (plane, triggers):
        await plane.apply("m", "moody")
        await eventually(lambda: moody.running == ["m"])
        await moody.orders.put("fail")
        await eventually(lambda: "bad mood" in triggers.sources.trouble.get("m", ""))
        assert b"muster_trigger_sources_failing 1.0" in triggers.exposition()
        await moody.orders.put("ring")
        await eventually(lambda: plane.keys("m") == ["ring"])
        assert not triggers.sources.trouble


async def test_a_source_that_lets_a_cancellation_of_its_own_out_is_started_again(
    fresh_nats: Nats, moody: type[Moody]
) -> None:
    async with mesh(fresh_nats) as (plane, triggers):
        await plane.apply("m", "moody")
        await eventually(lambda: moody.running == ["m"])
        await moody.orders.put("leak")
        await eventually(lambda: "m" in triggers.sources.trouble)
        await moody.orders.put("ring")
        await eventually(lambda: plane.keys("m") == ["ring"])


async def test_a_source_stops_at_once_when_its_trigger_is_deleted_disabled_or_set_otherwise(
    fresh_nats: Nats, moody: type[Moody]
) -> None:
    async with mesh(fresh_nats) as (plane, triggers):
        await plane.apply("m", "moody")
        await eventually(lambda: moody.running == ["m"])
        await plane.apply("m", "moody", enabled=False)
        await eventually(lambda: moody.running == [])
        await plane.apply("m", "moody")
        await eventually(lambda: moody.running == ["m"])
        task = triggers.sources._runs["m"].task
        await plane.apply("m", "moody", fails=True)
        await eventually(task.done)
        await eventually(lambda: moody.running == ["m"])
        await plane.delete("m")
        await eventually(lambda: moody.running == [])


async def test_a_change_of_something_else_does_not_stop_a_source_and_its_next_event_has_the_new_version(
    fresh_nats: Nats, moody: type[Moody]
) -> None:
    async with mesh(fresh_nats) as (plane, triggers):
        await plane.apply("m", "moody")
        await eventually(lambda: moody.running == ["m"])
        task = triggers.sources._runs["m"].task
        await plane.apply("m", "moody", bucket=False)  # only the broker knows
        await moody.orders.put("ring")
        await eventually(lambda: plane.keys("m") == ["ring"])
        assert [request.version for request in plane.attempts] == [1, 2]
        assert triggers.sources._runs["m"].task is task
        assert not task.done()


async def test_an_event_is_handed_over_until_a_broker_takes_it(fresh_nats: Nats, moody: type[Moody]) -> None:
    async with mesh(fresh_nats) as (plane, _):
        await plane.apply("m", "moody")
        await plane.close()
        await moody.orders.put("ring")
        await eventually(moody.orders.empty)
        await plane.reopen()
        await eventually(lambda: plane.keys("m") == ["ring"])


async def test_an_event_that_no_broker_takes_is_rejected_with_the_reason(fresh_nats: Nats, moody: type[Moody]) -> None:
    async with mesh(fresh_nats) as (plane, _):
        plane.refuse = lambda request: None if request.rejected else TooLargeError("it is much too large")
        await plane.apply("m", "moody")
        await moody.orders.put("ring")
        await eventually(lambda: plane.keys("m") == ["ring"])
        assert plane.fired[0].rejected == "it is much too large"


@pytest.mark.parametrize("rejected", ["", "the source says so"])
async def test_an_event_that_cannot_be_written_is_rejected_and_holds_up_none_behind_it(
    fresh_nats: Nats, moody: type[Moody], rejected: str
) -> None:
    async with mesh(fresh_nats) as (plane, triggers):
        await plane.apply("m", "moody")
        await eventually(lambda: moody.running == ["m"])
        source = triggers.sources._runs["m"].mesh
        bad = {"kind": "bad", "id": object(), "subject": "it", "body": object()}
        reply = await source.fire(Happening(event=bad, key="bad", rejected=rejected))
        assert (reply.state, plane.fired[0].event) == (FiringState.REJECTED, {"kind": "bad", "subject": "it"})
        assert plane.fired[0].rejected == rejected or "object" in plane.fired[0].rejected
        await source.fire(Happening(event={"kind": "good"}, key="good"))
        assert plane.keys("m") == ["bad", "good"]


# -- provider event -------------------------------------------------------------------------------


async def test_every_event_of_the_kinds_fires_once_and_in_order(fresh_nats: Nats) -> None:
    async with mesh(fresh_nats) as (plane, _):
        await plane.happen("order.failed", "before")
        await plane.apply("e", "event", kinds=["order.fail*", "deploy.done"])
        await plane.apply("other", "event", kinds=["element.*"])
        wanted = []
        for number in range(5):
            wanted.append((await plane.happen("order.failed", f"o{number}", chain=3)).id)
            await plane.happen("order.finished", f"o{number}")
            wanted.append((await plane.happen("inbox.event", "deploy.done", name="deploy.done", body={"n": number})).id)
            await plane.happen("inbox.event", "deploy.begun")
        online = await plane.happen("element.online", "e1")
        await eventually(lambda: plane.keys("e") == wanted, what="all events, in order")
        await eventually(lambda: plane.keys("other") == [online.id])
        first, second = (request for request in plane.fired if request.key in wanted[:2])
        assert (first.depth, first.event["kind"], first.event["subject"]) == (3, "order.failed", "o0")
        assert (second.depth, second.event["kind"], second.event["body"]) == (0, "deploy.done", {"n": 0})


async def test_events_that_were_not_heard_of_are_found_by_looking(
    fresh_nats: Nats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "POLL_INTERVAL", 0.1)
    async with mesh(fresh_nats) as (plane, _):
        await plane.apply("e", "event", kinds=["order.failed"])
        quiet = await plane.happen("order.failed", heard=False)
        await eventually(lambda: plane.keys("e") == [quiet.id])


async def test_a_page_that_cannot_be_read_ends_nothing(fresh_nats: Nats, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "POLL_INTERVAL", 0.1)
    async with mesh(fresh_nats) as (plane, triggers):
        give, bugs = Reader.give, [RecursionError("too deep"), ZeroDivisionError()]

        def clumsy(self: Reader, *args: Any) -> None:
            if bugs:
                raise bugs.pop()
            give(self, *args)

        monkeypatch.setattr(Reader, "give", clumsy)
        await plane.apply("e", "event", kinds=["order.failed"])
        failed = await plane.happen("order.failed")
        await eventually(lambda: plane.keys("e") == [failed.id])
        assert not triggers.sources.trouble


async def test_events_while_no_service_runs_are_made_good_and_none_counts_twice(
    fresh_nats: Nats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "SAVE_INTERVAL", 0.01)
    async with control_plane(fresh_nats.url) as plane:
        await plane.apply("e", "event", kinds=["order.failed"])
        async with service(plane):
            first = await plane.happen("order.failed")
            await eventually(lambda: plane.keys("e") == [first.id])
        away = [(await plane.happen("order.failed")).id for _ in range(events.PAGE + 3)]
        async with service(plane), service(plane):
            await eventually(lambda: plane.keys("e") == [first.id, *away], what="what happened meanwhile")


async def test_a_trigger_records_which_events_it_missed_because_they_are_no_longer_kept(
    fresh_nats: Nats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "SAVE_INTERVAL", 0.01)
    monkeypatch.setattr(events, "GRACE", timedelta(0))  # the place that was kept counts at once
    async with control_plane(fresh_nats.url) as plane:
        await plane.apply("e", "event", kinds=["order.failed"])
        async with service(plane):
            first = await plane.happen("order.failed")
            await eventually(lambda: plane.keys("e") == [first.id])
            cursors = await plane.js.key_value(names.CURSOR_BUCKET)
            await eventually(lambda: _count(cursors), what="the place that was kept")
        lost = [await plane.happen("order.failed") for _ in range(3)]
        plane.forget(lost[-1])
        kept = await plane.happen("order.failed")
        async with service(plane):
            await eventually(lambda: kept.id in plane.keys("e"), what="the events that are kept")
        missed = plane.fired[1]
        assert [request.key for request in plane.fired] == [first.id, missed.key, kept.id]
        assert missed.event["kind"] == "events.missed"
        assert "no longer kept" in str(missed.rejected)
        assert missed.event["body"]["next"] == plane.edge


async def _count(bucket: KeyValue) -> int:
    return (await bucket.status()).values


async def test_a_trigger_that_a_service_learns_of_late_misses_nothing(fresh_nats: Nats) -> None:
    async with mesh(fresh_nats) as (plane, _):
        await plane.apply("e", "event", kinds=["order.failed"])
        reported = await plane.apply("late", "event", bucket=False, kinds=["order.failed"])
        passed = await plane.happen("order.failed")
        await eventually(lambda: plane.keys("e") == [passed.id])
        bucket = await plane.js.key_value(names.TRIGGER_BUCKET)
        await bucket.put("late", msgspec.json.encode(reported))
        await eventually(lambda: plane.keys("late") == [passed.id])


async def test_a_busy_trigger_does_not_hold_up_the_others(fresh_nats: Nats) -> None:
    async with mesh(fresh_nats) as (plane, triggers):
        await plane.apply("slow", "event", kinds=["order.*"])
        await plane.apply("quick", "event", kinds=["order.*"])
        await eventually(lambda: len(triggers.sources) == 2)
        gate = asyncio.Event()
        run = triggers.sources._runs["slow"]
        taken = run.mesh._taken

        async def held(request: Any) -> Any:
            await gate.wait()
            return await taken(request)

        run.mesh._taken = held  # type: ignore[method-assign]
        wanted = [(await plane.happen("order.failed")).id for _ in range(3 * events.PAGE)]
        await eventually(lambda: plane.keys("quick") == wanted, 20, "the quick one's events")
        assert plane.keys("slow") == []
        gate.set()
        await eventually(lambda: plane.keys("slow") == wanted, 20, "the slow one's events")


# -- provider nats --------------------------------------------------------------------------------


async def consumers(client: Client, stream: str) -> list[ConsumerInfo]:
    """The consumers of a stream."""
    return await client.jetstream(timeout=5).consumers_info(stream)


async def probed(plane: ControlPlane, subject: str, data: bytes = b"probe") -> None:
    """Wait until somebody listens to a subject: core NATS drops what nobody hears."""

    async def heard() -> bool:
        await plane.client.publish(subject, data, headers={"Nats-Msg-Id": "probe"})
        return any(request.key == "probe" for request in plane.fired)

    await eventually(heard, what=f"somebody listens to {subject}")


async def test_a_core_message_fires_once_though_two_services_listen(fresh_nats: Nats) -> None:
    async with mesh(fresh_nats) as (plane, _), service(plane):
        await plane.apply("n", "nats", subject="shop.*.paid")
        await probed(plane, "shop.probe.paid")
        for number in range(20):
            await plane.client.publish(f"shop.{number}.paid", json.dumps({"n": number}).encode())
        await plane.client.publish("shop.x.paid", b"\xff text", headers={"Nats-Msg-Id": "m1", "X-Who": "me"})
        await eventually(lambda: len(plane.fired) >= 22, what="a firing a message")
        found = [request.event["body"]["n"] for request in plane.fired if isinstance(request.event["body"], dict)]
        assert sorted(found) == [*range(20)]
        text = next(request for request in plane.fired if request.key == "m1")
        assert text.event["body"] == "\\xff text"
        assert text.event["headers"]["x-who"] == "me"


async def test_a_message_larger_than_the_limit_makes_a_rejected_firing(fresh_nats: Nats) -> None:
    async with mesh(fresh_nats) as (plane, _):
        await plane.apply("n", "nats", subject="shop.big", max_body=10)
        await probed(plane, "shop.big")
        await plane.client.publish("shop.big", b"x" * 100_000)
        await eventually(lambda: len(plane.fired) == 2)
        assert "100000 bytes exceed max_body (10)" in plane.fired[-1].rejected
        assert len(plane.fired[-1].event["body"]) == 4096


async def test_a_streams_messages_are_acknowledged_once_their_firing_is_on_the_log(fresh_nats: Nats) -> None:
    async with control_plane(fresh_nats.url) as plane:
        await plane.js.add_stream(StreamConfig(name="SHOP", subjects=["shop.>"]))
        await plane.js.publish("shop.orders", b"before the trigger")
        await plane.apply("n", "nats", subject="shop.orders", stream="SHOP")
        while_away = await plane.js.publish("shop.orders", b"nobody runs")
        async with service(plane), service(plane):
            await eventually(lambda: len(plane.fired) == 1, what="what came while nobody ran")
            assert plane.fired[0].key.startswith(f"SHOP:{while_away.seq}:")
            await plane.close()
            for number in range(100):
                await plane.js.publish("shop.orders", str(number).encode())
            await eventually(partial(unacknowledged, plane, 100), what="all wait for a broker")
            await plane.reopen()
            await eventually(lambda: len(plane.fired) == 101, 20, "a firing a message")
            await eventually(partial(unacknowledged, plane, 0), what="all are acknowledged")
        assert sorted(request.event["body"] for request in plane.fired[1:]) == [*range(100)]


async def unacknowledged(plane: ControlPlane, number: int) -> bool:
    """Whether so many messages of SHOP wait."""
    (info,) = await consumers(plane.client, "SHOP")
    return (info.num_ack_pending or 0) + (info.num_pending or 0) == number


async def test_a_consumer_goes_with_its_trigger_or_its_settings(fresh_nats: Nats) -> None:
    async with mesh(fresh_nats) as (plane, _), service(plane):
        await plane.js.add_stream(StreamConfig(name="SHOP", subjects=["shop.>"]))

        async def filters(*wanted: str) -> bool:
            return sorted(str(it.config.filter_subject) for it in await consumers(plane.client, "SHOP")) == [*wanted]

        await plane.apply("n", "nats", subject="shop.a", stream="SHOP")
        await eventually(partial(filters, "shop.a"), what="a consumer")
        await plane.apply("n", "nats", subject="shop.b", stream="SHOP")
        await eventually(partial(filters, "shop.b"), what="another consumer, and only that")
        await plane.apply("n", "nats", subject="shop.b", stream="SHOP", enabled=False)
        await eventually(filters, what="no consumer")
        await plane.apply("n", "nats", subject="shop.b", stream="SHOP")
        await eventually(partial(filters, "shop.b"), what="a consumer again")
        await plane.delete("n")
        await eventually(filters, what="no consumer")


async def test_a_consumer_of_a_trigger_that_is_deleted_while_nobody_runs_goes_with_the_next_start(
    fresh_nats: Nats,
) -> None:
    async with control_plane(fresh_nats.url) as plane:
        await plane.js.add_stream(StreamConfig(name="SHOP", subjects=["shop.>"]))
        await plane.apply("n", "nats", subject="shop.a", stream="SHOP")

        async def number(wanted: int) -> bool:
            return len(await consumers(plane.client, "SHOP")) == wanted

        async with service(plane):
            await eventually(partial(number, 1))
        await plane.delete("n")
        assert await number(1)
        async with service(plane):
            await eventually(partial(number, 0), what="no consumer")


async def test_a_stream_that_is_not_there_is_reported_and_waited_for(fresh_nats: Nats) -> None:
    async with mesh(fresh_nats) as (plane, triggers):
        await plane.apply("n", "nats", subject="shop.a", stream="SHOP")
        await eventually(lambda: "no stream 'SHOP'" in triggers.sources.trouble.get("n", ""))
        await plane.js.add_stream(StreamConfig(name="SHOP", subjects=["shop.>"]))
        await plane.js.publish("shop.a", b"1")
        await eventually(lambda: len(plane.fired) == 1, 20)
