"""What a plain NATS client reaches: requests, the micro protocol, the inbox, events.  Nothing of ours in between."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import nats
import pytest
import pytest_asyncio
from nats.aio.client import Client

from tests.kit.blueprints import blueprint, script
from tests.kit.roles import Roles
from tests.kit.waiting import deadline, eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def client(mesh: Roles) -> AsyncIterator[Client]:
    """A plain client."""
    await mesh.apply(blueprint("greet", script("say", "echo hi $INPUT_WHO"), inputs={"who": {"default": "you"}}))
    client = await nats.connect(mesh.plain_url)
    yield client
    await client.close()


async def ask(client: Client, subject: str, body: Any = None) -> Any:
    """A request with a JSON body, and the JSON answer."""
    answer = await client.request(subject, json.dumps(body).encode() if body is not None else b"", timeout=5)
    return json.loads(answer.data)


async def requests_of(client: Client, subject: str) -> int:
    """How many requests on a subject the service has counted."""
    stats = await ask(client, "$SRV.STATS.muster")
    return next(int(one["num_requests"]) for one in stats["endpoints"] if one["subject"] == subject)


async def test_an_order_is_made_by_a_request_and_answered_as_over_http(mesh: Roles, client: Client) -> None:
    reported = await ask(client, "muster.api.orders.create", {"blueprint": "greet", "on": "e1"})
    (order,) = reported["orders"]
    assert (await mesh.final(order["id"]))["state"] == "finished"
    got = await ask(client, "muster.api.orders.get", {"id": order["id"]})
    assert got == await mesh.get(f"orders/{order['id']}")


async def test_a_wrong_request_gets_the_problem_and_the_micro_error_headers(client: Client) -> None:
    body = json.dumps({"blueprint": "gret", "on": "e1"}).encode()
    answer = await client.request("muster.api.orders.create", body, timeout=5)
    assert answer.headers
    assert answer.headers["Nats-Service-Error-Code"] == "404"
    problem = json.loads(answer.data)["error"]
    assert (problem["status"], "did you mean 'greet'" in problem["detail"]) == (404, True)


async def test_the_micro_protocol_lists_the_services(client: Client) -> None:
    ping = await ask(client, "$SRV.PING.muster")
    assert ping["type"] == "io.nats.micro.v1.ping_response"
    info = await ask(client, "$SRV.INFO.muster")
    assert "muster.api.orders.create" in {endpoint["subject"] for endpoint in info["endpoints"]}
    before = await requests_of(client, "muster.api.orders.preview")
    await ask(client, "muster.api.orders.preview", {"blueprint": "greet", "on": "e1"})
    assert await requests_of(client, "muster.api.orders.preview") == before + 1


async def test_the_inbox_makes_an_order_once_for_each_message_id(mesh: Roles, client: Client) -> None:
    js = client.jetstream()
    body = json.dumps({"blueprint": "greet", "on": "e1", "inputs": {"who": "inbox"}}).encode()
    for _ in range(3):
        await js.publish("muster.inbox.orders", body, headers={"Nats-Msg-Id": "inbox-once"})

    async def made() -> list[Any]:
        orders = (await mesh.get("orders", blueprint="greet"))["items"]
        return [order for order in orders if order["inputs"].get("who") == "inbox"]

    await eventually(made, what="an order from the inbox")
    await js.publish("muster.inbox.orders", body, headers={"Nats-Msg-Id": "inbox-another"})

    async def two() -> bool:
        return len(await made()) == 2

    await eventually(two, what="exactly one more")


async def test_a_bad_message_is_kept_as_an_event_with_the_reason(mesh: Roles, client: Client) -> None:
    await client.publish("muster.inbox.orders", b"{not json")
    await client.publish("muster.inbox.orders", b'{"blueprint": "none-such", "on": "e1"}')

    async def both() -> list[dict[str, Any]]:
        found = await mesh.events("inbox.rejected")
        assert len(found) == 2
        return found

    kept = await eventually(both, what="two rejected messages")
    assert kept[0]["data"]["body"] == "{not json"
    assert "none-such" in kept[1]["data"]["reason"]
    async with mesh.background("events", "--after", "0", "--kind", "inbox.rejected") as watching:
        await watching.line("none-such")


async def test_events_are_heard_as_cloud_events(mesh: Roles, client: Client) -> None:
    heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def hear(message: Any) -> None:
        heard.put_nowait({"on": message.subject, **json.loads(message.data)})

    subscription = await client.subscribe("muster.event.>", cb=hear)
    await client.flush()
    order = await mesh.order("greet")
    types = []
    async with deadline(10, "the order's end, heard"):
        while "muster.order.finished" not in types:
            event = await heard.get()
            if event["subject"] == order:
                types.append(event["type"])
                assert event["specversion"] == "1.0"
                assert event["on"] == f"{event['type'].replace('muster.', 'muster.event.', 1)}.{order}"
    await subscription.unsubscribe()
    orders = [kind for kind in types if kind.startswith("muster.order.")]
    assert orders == ["muster.order.created", "muster.order.running", "muster.order.finished"]


async def test_noise_on_the_log_changes_nothing_and_is_reported(mesh: Roles, client: Client) -> None:
    order = await mesh.run("greet")
    forged = json.dumps({"type": "retried", "order": order["id"], "snapshot": order, "by": {"name": "me"}}).encode()
    await client.jetstream().publish(f"muster.log.order.{order['id']}.e1", forged)
    await client.jetstream().publish("muster.log.order.x.broker", b"noise")

    async def reported() -> bool:
        return len(await mesh.events("record.refused")) >= 2

    await eventually(reported, what="two refused records")
    assert (await mesh.get(f"orders/{order['id']}"))["state"] == "finished"
