"""The inbox: what is published there becomes an order, or is kept with the reason."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from nats.js.api import ConsumerConfig, ConsumerInfo

from muster.blueprints.rates import Rate
from muster.broker.api.inbox import Inbox
from muster.mesh import names
from muster.mesh.caller import Caller
from muster.mesh.connection import connect
from muster.mesh.errors import UnavailableError
from muster.mesh.model import Order, OrderRequest
from tests.broker.api.conftest import BLUEPRINT, Mesh, running
from tests.kit.servers import Nats
from tests.kit.waiting import eventually

BODY: dict[str, Any] = {"blueprint": "hello", "on": "web01"}


async def put(mesh: Mesh, body: bytes, key: str | None = None) -> None:
    """What `nats pub muster.inbox.orders` does, with JetStream's acknowledgement."""
    await mesh.nats.jetstream().publish(names.INBOX_ORDERS, body, headers={"Nats-Msg-Id": key} if key else None)


async def consumer(mesh: Mesh) -> ConsumerInfo:
    """How far the inbox is read."""
    info: ConsumerInfo = await mesh.nats.jetstream().consumer_info(names.INBOX_STREAM, names.INBOX_CONSUMER)
    return info


async def emptied(mesh: Mesh) -> None:
    """Wait until everything in the inbox is dealt with."""

    async def empty() -> bool:
        info = await consumer(mesh)
        return not info.num_pending and not info.num_ack_pending

    await eventually(empty)


async def orders(mesh: Mesh) -> list[dict[str, Any]]:
    """All orders."""
    items: list[dict[str, Any]] = (await mesh.http.get("/api/v1/orders")).json()["items"]
    return items


async def rejections(mesh: Mesh, kind: str = "inbox.rejected") -> list[dict[str, Any]]:
    """The events that report bad messages."""
    answer = await mesh.http.get("/api/v1/events", headers={"Accept": "application/json"}, params={"kind": kind})
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def test_a_message_becomes_an_order(own_mesh: Mesh) -> None:
    await own_mesh.nats.publish(names.INBOX_ORDERS, json.dumps(BODY).encode())  # plain, without JetStream's answer
    (order,) = await eventually(lambda: orders(own_mesh))
    assert (order["element"], order["created_by"]) == ("web01", "inbox")
    await emptied(own_mesh)


async def test_a_message_delivered_twice_makes_one_order(own_mesh: Mesh) -> None:
    commands = own_mesh.broker
    inbox = next(service for service in commands.services if isinstance(service, Inbox))
    create, calls = inbox._commands.orders.create, 0

    async def forgetful(request: OrderRequest, *, by: Caller, key: str | None = None) -> list[Order]:
        nonlocal calls
        calls += 1
        made = await create(request, by=by, key=key)
        if calls == 1:
            raise UnavailableError("the answer was lost")
        return made

    inbox._commands.orders.create = forgetful  # type: ignore[method-assign]
    await put(own_mesh, json.dumps(BODY).encode())
    await eventually(lambda: calls == 2)
    await emptied(own_mesh)
    assert len(await orders(own_mesh)) == 1


async def test_a_message_id_is_the_key(own_mesh: Mesh) -> None:
    await put(own_mesh, json.dumps(BODY).encode(), "same")
    await put(own_mesh, json.dumps(BODY).encode(), "same")
    await emptied(own_mesh)
    over_http = await own_mesh.http.post("/api/v1/orders", json=BODY, headers={"Idempotency-Key": "same"})
    assert over_http.json()["orders"][0]["id"] == (await orders(own_mesh))[0]["id"]
    assert len(await orders(own_mesh)) == 1


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"\xff\xfe nonsense", "UTF-8"),
        (b'{"blueprnt": "hello", "on": 7}', "blueprint"),
        (b'{"blueprint": "unheard-of", "on": "web01"}', "unheard-of"),
        (b"", "empty"),
        (b'{"blueprint":"hello","on":"web01","not_before":"0001-01-01T00:00:00+01:00"}', "beyond the years 1 to 9999"),
        (b'{"blueprint": "hello", "on": "web01", "inputs": {"a": %b%b}}' % (b"[" * 99, b"]" * 99), "100 levels"),
    ],
)
async def test_a_bad_message_is_kept_with_the_reason(own_mesh: Mesh, body: bytes, words: str) -> None:
    await put(own_mesh, body)
    (event,) = await eventually(lambda: rejections(own_mesh))
    assert words in event["data"]["reason"]
    assert event["data"]["subject"] == names.INBOX_ORDERS
    assert event["data"]["body"] == body.decode(errors="backslashreplace")
    await emptied(own_mesh)
    assert await orders(own_mesh) == []


async def test_a_message_that_brings_a_bug_to_light_does_not_come_for_ever(
    own_mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = next(service for service in own_mesh.broker.services if isinstance(service, Inbox))

    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr("muster.broker.api.inbox.RETRY_DELAY", timedelta(milliseconds=10))
    monkeypatch.setattr(inbox._commands.orders, "create", broken)
    await put(own_mesh, json.dumps(BODY).encode())
    (event,) = await eventually(lambda: rejections(own_mesh))
    assert event["data"]["reason"] == "a bug of the broker's: ZeroDivisionError()"
    await emptied(own_mesh)


async def test_bad_messages_do_not_hold_up_good_ones(own_mesh: Mesh) -> None:
    for number in range(100):
        await put(own_mesh, b"nonsense" if number % 2 else json.dumps(BODY).encode())
    await emptied(own_mesh)
    assert (len(await orders(own_mesh)), len(await rejections(own_mesh))) == (50, 50)


async def test_a_message_by_name_is_an_event(own_mesh: Mesh) -> None:
    js = own_mesh.nats.jetstream()
    await js.publish("muster.inbox.events.deploy.done", b'{"version": 3}', headers={"Nats-Msg-Id": "one"})
    await js.publish("muster.inbox.events.deploy.done", b"[]")
    await emptied(own_mesh)
    first, second = await rejections(own_mesh, "inbox.event")
    assert (first["subject"], first["data"]) == ("deploy.done", {"name": "deploy.done", "body": {"version": 3}})
    assert second["data"]["body"] == []


async def test_an_event_that_comes_again_counts_once(own_mesh: Mesh) -> None:
    inbox = next(each for each in own_mesh.broker.services if isinstance(each, Inbox))
    announce, calls = inbox._commands.announcements.announce, 0

    async def forgetful(name: str, body: Any, *, key: str) -> None:
        nonlocal calls
        calls += 1
        await announce(name, body, key=key)
        if calls == 1:
            raise UnavailableError("the answer was lost")

    inbox._commands.announcements.announce = forgetful  # type: ignore[method-assign]
    await own_mesh.nats.publish("muster.inbox.events.deploy", b"1")
    await eventually(lambda: calls == 2)
    await emptied(own_mesh)
    assert len(await rejections(own_mesh, "inbox.event")) == 1


@pytest.mark.parametrize(
    ("name", "body", "words"),
    [
        ("deploy", b"version 3", "not valid JSON"),
        ("Deploy", b"{}", "not an event's name"),
        ("deploy", b"[" * 101 + b"]" * 101, "100 levels"),
        ("deploy", b"[" * 979 + b"]" * 979, "100 levels"),
    ],
)
async def test_an_event_that_cannot_be_used_is_kept(own_mesh: Mesh, name: str, body: bytes, words: str) -> None:
    await own_mesh.nats.publish(f"muster.inbox.events.{name}", body)
    (event,) = await eventually(lambda: rejections(own_mesh))
    assert words in event["data"]["reason"]
    assert event["data"]["body"] == body.decode()


async def test_a_subject_that_is_no_text_is_kept_and_stops_nobody(own_mesh: Mesh) -> None:
    await own_mesh.nats._send_command(b"PUB muster.inbox.events.caf\xe9 2\r\n{}\r\n")
    (event,) = await eventually(lambda: rejections(own_mesh))
    assert event["data"]["subject"] == "muster.inbox.events.caf\\xe9"
    assert "not an event's name" in event["data"]["reason"]


@pytest.mark.parametrize("subject", ["muster.inbox.order", "muster.inbox.events", "muster.inbox.orders.web01"])
async def test_what_nobody_reads_is_kept_too(own_mesh: Mesh, subject: str) -> None:
    await own_mesh.nats.publish(subject, json.dumps(BODY).encode())
    (event,) = await eventually(lambda: rejections(own_mesh))
    assert (event["data"]["subject"], event["data"]["body"]) == (subject, json.dumps(BODY))
    assert "muster.inbox.orders and muster.inbox.events.<name>" in event["data"]["reason"]


async def test_messages_of_an_inbox_that_was_made_anew_are_new(fresh_nats: Nats, tmp_path: Path) -> None:
    for number in (1, 2):
        async with running(fresh_nats, tmp_path) as mesh:
            await mesh.apply(BLUEPRINT, {"kind": "machine", "name": "web01"})
            await put(mesh, json.dumps(BODY).encode())
            await emptied(mesh)
            assert len(await orders(mesh)) == number
            await mesh.nats.jetstream().delete_stream(names.INBOX_STREAM)


async def test_what_waits_for_an_earlier_versions_consumer_is_read(fresh_nats: Nats, tmp_path: Path) -> None:
    async with running(fresh_nats, tmp_path) as mesh:
        await mesh.apply(BLUEPRINT, {"kind": "machine", "name": "web01"})
    async with connect(fresh_nats.url, name="test") as client:
        js = client.jetstream()
        await js.delete_consumer(names.INBOX_STREAM, names.INBOX_CONSUMER)
        old = ConsumerConfig(durable_name="inbox-orders", filter_subject=names.INBOX_ORDERS)
        await js.add_consumer(names.INBOX_STREAM, old)
        await js.publish(names.INBOX_ORDERS, json.dumps(BODY).encode())
    async with running(fresh_nats, tmp_path) as mesh:
        assert len(await eventually(lambda: orders(mesh))) == 1


async def test_the_consumer_is_made_anew_when_it_is_gone(own_mesh: Mesh) -> None:
    await own_mesh.nats.jetstream().delete_consumer(names.INBOX_STREAM, names.INBOX_CONSUMER)
    await put(own_mesh, json.dumps(BODY).encode())
    assert len(await eventually(lambda: orders(own_mesh))) == 1


async def test_a_flood_of_events_is_dropped_and_reported_once(own_mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("muster.broker.api.inbox.EVENT_RATE", Rate(3, 3600))
    for number in range(10):
        subject = names.INBOX_EVENTS.replace(">", "flood")
        await own_mesh.nats.jetstream().publish(subject, b"%d" % number, headers={"Nats-Msg-Id": f"f{number}"})
    await own_mesh.nats.jetstream().publish(names.INBOX_EVENTS.replace(">", "calm"), b"1")
    await emptied(own_mesh)
    assert len(await rejections(own_mesh, "inbox.event")) == 4
    (reported,) = await rejections(own_mesh)
    assert "dropped" in reported["data"]["reason"]
