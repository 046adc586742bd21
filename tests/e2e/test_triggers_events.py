"""What happens elsewhere becomes work: Muster's own events, names on the inbox, NATS messages."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import nats
import pytest
import pytest_asyncio
from nats.aio.client import Client as NatsClient
from nats.js.api import StreamConfig

from tests.kit.blueprints import blueprint, script, trigger
from tests.kit.roles import Roles
from tests.kit.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

MOST_CHAIN = 8


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def blueprints(mesh: Roles) -> None:
    """What is run here."""
    await mesh.apply(
        blueprint("work", {"name": "nothing", "uses": "noop"}, inputs={"said": {"default": None}}),
        blueprint("fails", script("fail", "exit 1")),
        blueprint("echo", script("say", 'echo "$INPUT_SAID"'), inputs={"said": {"type": "string"}}),
    )


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def client(mesh: Roles) -> AsyncIterator[NatsClient]:
    """Somebody's own client."""
    client = await nats.connect(mesh.plain_url)
    yield client
    await client.close()


async def orders_of(mesh: Roles, firings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The orders of firings, ended."""
    return [await mesh.final(order) for firing in firings for order in firing.get("orders", ())]


async def test_an_order_that_fails_makes_another_one(mesh: Roles) -> None:
    template = "{{ event.body.blueprint }} failed: {{ event.body.reason }}"
    when = 'event.body.blueprint == "fails"'
    await mesh.apply(
        trigger("on-fail", "event", "echo", with_={"kinds": ["order.failed"]}, when=when, inputs={"said": template})
    )
    failed = await mesh.run("fails")
    (order,) = await orders_of(mesh, await mesh.fired("on-fail"))
    assert (await mesh.output(order["id"])).decode().startswith("fails failed: task 'fail' failed")
    assert (order["trigger"], order["chain"], order["created_by"]) == ("on-fail", 1, "trigger on-fail")
    assert len(await mesh.firings("on-fail")) == 1
    (firing,) = await mesh.firings("on-fail")
    assert firing["event"]["subject"] == failed["id"]
    await mesh.http.delete("/api/v1/triggers/on-fail")


async def test_triggers_that_set_each_other_off_are_stopped(mesh: Roles) -> None:
    await mesh.apply(
        trigger("loop", "event", with_={"kinds": ["order.finished"]}, when='event.body.blueprint == "work"')
    )
    await mesh.run("work")

    async def stopped() -> list[dict[str, Any]]:
        return [event for event in await mesh.events("firing.stopped") if event["data"]["trigger"] == "loop"]

    (event,) = await eventually(stopped, 20, "the end of the chain")
    assert f"{MOST_CHAIN + 1} firings have caused one another" in event["data"]["reason"]
    found = await mesh.firings("loop")
    assert [firing.get("depth", 0) for firing in found] == [*range(MOST_CHAIN + 2)]
    assert [firing["state"] for firing in found] == [*["fired"] * (MOST_CHAIN + 1), "rejected"]
    assert [order["chain"] for order in await orders_of(mesh, found)] == [*range(1, MOST_CHAIN + 2)]
    await mesh.http.delete("/api/v1/triggers/loop")


async def test_a_message_on_the_inbox_fires_once_for_each_message_id(mesh: Roles, client: NatsClient) -> None:
    await mesh.apply(
        trigger("deployed", "event", "echo", with_={"kinds": ["deploy.*"]}, inputs={"said": "{{ event.body.what }}"})
    )
    js = client.jetstream()
    for _ in range(2):
        body = json.dumps({"what": "version 7"}).encode()
        await js.publish("muster.inbox.events.deploy.done", body, headers={"Nats-Msg-Id": "d7"})
    (order,) = await orders_of(mesh, await mesh.fired("deployed"))
    assert await mesh.output(order["id"]) == b"version 7\n"
    await js.publish("muster.inbox.events.deploy.done", b'{"what": "version 8"}')
    await mesh.fired("deployed", 2)
    assert [firing["event"]["kind"] for firing in await mesh.firings("deployed")] == ["deploy.done"] * 2
    await mesh.http.delete("/api/v1/triggers/deployed")


async def test_a_core_message_is_work(mesh: Roles, client: NatsClient) -> None:
    await mesh.apply(
        trigger("core", "nats", "echo", with_={"subject": "shop.*.paid"}, inputs={"said": "{{ event.body.sum }} EUR"})
    )

    async def heard() -> bool:
        await client.publish("shop.7.paid", b'{"sum": 12}', headers={"Nats-Msg-Id": "first"})
        return bool(await mesh.firings("core"))

    await eventually(heard, what="somebody listens")
    (order,) = await orders_of(mesh, await mesh.firings("core"))
    assert await mesh.output(order["id"]) == b"12 EUR\n"
    await client.publish("shop.8.paid", b"no JSON")
    rejected = (await mesh.fired("core", 2))[1]
    assert rejected["state"] == "rejected"
    assert "sum" in rejected["reason"]
    await mesh.http.delete("/api/v1/triggers/core")


async def test_a_streams_messages_survive_that_nobody_runs(mesh: Roles, client: NatsClient) -> None:
    js = client.jetstream()
    await js.add_stream(StreamConfig(name="SHOP", subjects=["sales.>"]))
    await mesh.apply(trigger("sold", "nats", with_={"subject": "sales.*", "stream": "SHOP"}))
    await js.publish("sales.1", b"1")
    await mesh.fired("sold")
    await mesh.kill("triggers")
    for number in range(2, 12):
        await js.publish(f"sales.{number}", str(number).encode())
    await mesh.start("triggers")
    await mesh.fired("sold", 11, 20)
    found = await mesh.firings("sold")
    assert sorted(firing["event"]["body"] for firing in found) == [*range(1, 12)]
    await mesh.http.delete("/api/v1/triggers/sold")

    async def gone() -> bool:
        return not await js.consumers_info("SHOP")

    await eventually(gone, what="its consumer is removed")


@pytest.mark.parametrize(
    ("provider", "settings", "words"),
    [
        ("event", {"kinds": ["order.fialed"]}, "did you mean 'order.failed'"),
        ("event", {"kinds": []}, "kinds"),
        ("nats", {"subject": "muster.log.>"}, "Muster's own"),
        ("nats", {"subject": ">"}, "start with a token of your own"),
        ("nats", {"subject": "$JS.>"}, "NATS's own"),
        ("nats", {"subjekt": "x"}, "did you mean 'subject'"),
        ("cron", {"cron": "61 * * * *"}, "61"),
        ("calendar", {"rrule": "FREQ=SOMETIMES"}, "FREQ"),
    ],
)
async def test_what_cannot_work_is_reported_when_it_is_applied(
    mesh: Roles, provider: str, settings: dict[str, Any], words: str
) -> None:
    manifest = json.dumps(trigger("wrong", provider, with_=settings)).encode()
    ran = await mesh.cli("apply", "-f", "-", stdin=manifest)
    assert ran.code == 2
    assert words in ran.stderr
