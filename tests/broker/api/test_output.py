"""What tasks print, read back: in order, once, live, and with bounded memory."""

from __future__ import annotations

import os
import time
from base64 import b64decode
from contextlib import AsyncExitStack
from pathlib import Path

import psutil
import pytest

from muster.mesh import names, records
from muster.mesh.embedded_nats import EmbeddedNats, NatsSettings
from muster.mesh.jetstream import Publisher
from muster.mesh.model import OrderState
from tests.broker.api.conftest import BLUEPRINT, Mesh, running
from tests.broker.api.streams import events
from tests.broker.api.test_orders import finish
from tests.broker.api.test_problems import problem
from tests.kit.ports import free_port
from tests.kit.waiting import deadline, eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

MIB = 1024 * 1024
MOST_CLAIMS = 2
"""Attempts that the printer makes here; a chunk that says it is of a later one lies."""


class Printer:
    """An agent's side of the output stream; it claims the order for as many attempts as it prints of."""

    def __init__(self, publisher: Publisher, order: str, job: str = "greet", element: str = "web01") -> None:
        self._publisher, self._subject = publisher, names.output(order, element, job)
        self._order = order
        self._claims = 0
        self.offset = 0

    async def _claim(self) -> None:
        if self._claims:
            await self._write(records.Lost(order=self._order, attempt=self._claims, reason="test"), names.BROKER)
        self._claims += 1
        claimed = records.Claimed(order=self._order, attempt=self._claims, element="web01", agent="test")
        await self._write(claimed, "web01")

    async def _write(self, record: records.Record, actor: str) -> None:
        await self._publisher.publish(records.subject(record, actor), records.encode(record))

    async def say(self, data: bytes, *, claim: int = 1, attempt: int = 1, offset: int | None = None) -> None:
        """Send one chunk, and wait until it is stored."""
        while self._claims < claim <= MOST_CLAIMS:
            await self._claim()
        at = self.offset if offset is None else offset
        headers = {"Muster-Claim": str(claim), "Muster-Attempt": str(attempt), "Muster-Offset": str(at)}
        await self._publisher.publish(self._subject, data, headers)
        self.offset = at + len(data)


async def test_output_is_downloaded_as_plain_bytes(mesh: Mesh) -> None:
    order = await mesh.order()
    async with Publisher(mesh.nats) as publisher:
        printer = Printer(publisher, order["id"])
        for part in (b"one\n", b"\x00\xff", b"two\n"):
            await printer.say(part)
    answer = await mesh.http.get(f"/api/v1/orders/{order['id']}/output")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.content == b"one\n\x00\xfftwo\n"


async def test_an_order_without_output_has_an_empty_one(mesh: Mesh) -> None:
    order = await mesh.order()
    assert (await mesh.http.get(f"/api/v1/orders/{order['id']}/output")).content == b""


async def test_what_was_sent_twice_is_read_once(mesh: Mesh) -> None:
    order = await mesh.order()
    async with Publisher(mesh.nats) as publisher:
        printer = Printer(publisher, order["id"])
        await printer.say(b"abc", offset=0)
        await printer.say(b"abc", offset=0)
        await printer.say(b"cde", offset=2)
        await printer.say(b"f", offset=5)
        await printer.say(b"again", attempt=2, offset=0)
        await printer.say(b"late", attempt=1, offset=6)
    assert (await mesh.http.get(f"/api/v1/orders/{order['id']}/output")).content == b"abcdefagain"


async def test_an_order_that_was_retried_or_lost_reports_what_its_next_attempt_prints(mesh: Mesh) -> None:
    """The tries of a task are counted anew by each attempt at the order."""
    order = await mesh.order()
    async with Publisher(mesh.nats) as publisher:
        printer = Printer(publisher, order["id"])
        await printer.say(b"one ", claim=1, offset=0)
        await printer.say(b"two ", claim=1, attempt=2, offset=0)
        await printer.say(b"three", claim=2, offset=0)
        await printer.say(b"late", claim=1, attempt=3, offset=0)
    assert (await mesh.http.get(f"/api/v1/orders/{order['id']}/output")).content == b"one two three"


@pytest.mark.parametrize("follow", ["true", "false"])
async def test_what_somebody_else_wrote_is_no_output(mesh: Mesh, follow: str) -> None:
    """An element writes on its own subjects only, and claims of itself what it likes."""
    order = await mesh.order()
    async with Publisher(mesh.nats) as publisher:
        forger = Printer(publisher, order["id"], element="web03")
        printer = Printer(publisher, order["id"])
        forger._claims = MOST_CLAIMS  # it has none
        for claim in (999, 2, 1, 0, -1):
            await forger.say(b"FORGED", claim=claim, offset=0)
        await printer.say(b"one ", claim=1, offset=0)
        await printer.say(b"of a claim that it never made", claim=999, offset=0)
        await printer.say(b"two", claim=2, offset=0)
        await forger.say(b"FORGED", claim=2, offset=3)
    await finish(mesh, order, attempt=2)
    path, params = f"/api/v1/orders/{order['id']}/output", {"follow": follow}
    assert (await mesh.http.get(path)).content == b"one two"
    if follow == "true":
        async with deadline(), events(mesh.http, path, params=params) as stream:
            assert "".join([event.data.get("data", "") async for event in stream]) == "one two"


async def test_one_jobs_output_is_read_alone(mesh: Mesh) -> None:
    order = await mesh.order()
    async with Publisher(mesh.nats) as publisher:
        await Printer(publisher, order["id"], "greet").say(b"hello")
        await Printer(publisher, order["id"], "other.job").say(b"other")
    path = f"/api/v1/orders/{order['id']}/output"
    assert (await mesh.http.get(path, params={"job": "other.job"})).content == b"other"
    problem(await mesh.http.get(path, params={"job": "*"}), 422)
    problem(await mesh.http.get("/api/v1/orders/zzzzzzzz/output"), 404)


async def test_a_follower_sees_everything_and_then_the_end(mesh: Mesh) -> None:
    order = await mesh.order()
    params = {"follow": "true"}
    async with deadline(), Publisher(mesh.nats) as publisher:
        printer = Printer(publisher, order["id"])
        await printer.say(b"before\n")
        async with events(mesh.http, f"/api/v1/orders/{order['id']}/output", params=params) as stream:
            first = (await anext(stream)).data
            assert first == {"job": "greet", "claim": 1, "attempt": 1, "offset": 0, "data": "before\n"}
            await printer.say("naïve\n".encode())
            assert (await anext(stream)).data["data"] == "naïve\n"
            await printer.say(b"\xc3")
            await printer.say(b"\xa4\xe2\x82")
            assert (await anext(stream)).data["data"] == "ä"
            await printer.say(b"\x00\x01\xff")
            binary = (await anext(stream)).data
            assert (binary["encoding"], b64decode(binary["data"])) == ("base64", b"\xe2\x82\x00\x01\xff")
            await printer.say(b"last\n")
            await finish(mesh, order, OrderState.FAILED)
            assert (await anext(stream)).data["data"] == "last\n"
            end = await anext(stream)
            assert (end.event, end.data["state"]) == ("end", "failed")
            assert await anext(stream, None) is None


async def test_following_an_ended_order_replays_and_ends(mesh: Mesh) -> None:
    order = await mesh.order()
    async with deadline(), Publisher(mesh.nats) as publisher:
        await Printer(publisher, order["id"]).say(b"all of it")
        await finish(mesh, order)
        params = {"follow": "true"}
        async with events(mesh.http, f"/api/v1/orders/{order['id']}/output", params=params) as stream:
            assert [message.event or message.data["data"] async for message in stream] == ["all of it", "end"]


async def test_a_follower_sees_a_line_at_once(mesh: Mesh) -> None:
    order = await mesh.order()
    params = {"follow": "true"}
    async with deadline(), Publisher(mesh.nats) as publisher:
        printer = Printer(publisher, order["id"])
        async with events(mesh.http, f"/api/v1/orders/{order['id']}/output", params=params) as stream:
            took = []
            for _ in range(20):
                sent = time.perf_counter()
                await printer.say(b"line\n")
                await anext(stream)
                took.append(time.perf_counter() - sent)
    assert min(took) < 0.2, "each line waits for others"


async def test_many_megabytes_pass_through_with_bounded_memory(mesh: Mesh) -> None:
    order = await mesh.order()
    chunk = os.urandom(128 * 1024)
    async with deadline(60), Publisher(mesh.nats) as publisher:
        printer = Printer(publisher, order["id"])
        for _ in range(512):
            await printer.say(chunk)
    before = psutil.Process().memory_info().rss
    largest = read = 0
    async with (
        deadline(60),
        mesh.http.stream("GET", f"/api/v1/orders/{order['id']}/output", timeout=30) as answer,
    ):
        async for part in answer.aiter_raw():
            read += len(part)
            largest = max(largest, psutil.Process().memory_info().rss)
    assert read == 512 * len(chunk)
    assert largest - before < 32 * MIB


async def test_a_slow_reader_holds_no_megabytes(mesh: Mesh) -> None:
    order = await mesh.order()
    chunk = os.urandom(128 * 1024)
    async with deadline(60), Publisher(mesh.nats) as publisher:
        printer = Printer(publisher, order["id"])
        for _ in range(512):
            await printer.say(chunk)
    before = psutil.Process().memory_info().rss
    async with mesh.http.stream("GET", f"/api/v1/orders/{order['id']}/output") as answer:
        parts = answer.aiter_raw()
        await anext(parts)
        for _ in range(50):  # give the broker every chance to run ahead
            await mesh.http.get("/healthz")
        assert psutil.Process().memory_info().rss - before < 32 * MIB


async def test_a_reader_that_leaves_leaves_nothing_behind(mesh: Mesh) -> None:
    order = await mesh.order()
    js = mesh.nats.jetstream()

    async def consumers() -> int:
        return (await js.stream_info(names.OUTPUT_STREAM)).state.consumer_count

    before = await consumers()

    async def reads() -> bool:
        return await consumers() > before

    async def reads_no_more() -> bool:
        return await consumers() <= before

    params = {"follow": "true"}
    async with events(mesh.http, f"/api/v1/orders/{order['id']}/output", params=params):
        await eventually(reads, what="the reader has no consumer")
    await eventually(reads_no_more, what="the reader's consumer stays")


async def test_a_follower_outlives_its_servers_restart(tmp_path: Path) -> None:
    port = free_port()
    settings = NatsSettings(folder=tmp_path / "nats", durability="fast", port=port)
    async with AsyncExitStack() as second, deadline(50):
        async with AsyncExitStack() as first:
            server = await first.enter_async_context(EmbeddedNats(settings))
            mesh = await second.enter_async_context(running(server, tmp_path / "broker"))
            await mesh.apply(BLUEPRINT, {"kind": "machine", "name": "web01"})
            order = await mesh.order()
            path, params = f"/api/v1/orders/{order['id']}/output", {"follow": "true"}
            stream = await second.enter_async_context(events(mesh.http, path, params=params))
            publisher = await second.enter_async_context(Publisher(mesh.nats))
            printer = Printer(publisher, order["id"])
            await printer.say(b"before")
            assert (await anext(stream)).data["data"] == "before"
        await second.enter_async_context(EmbeddedNats(settings))
        await eventually(lambda: mesh.nats.is_connected and mesh.broker.client.is_connected)
        await printer.say(b"after")
        assert (await anext(stream)).data["data"] == "after"
