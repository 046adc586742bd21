"""The NATS surface, spoken to with a plain client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest
from nats.aio.msg import Msg

from muster import __version__
from muster.broker.api.nats import MAX_UNDER_WAY, NatsApi
from muster.broker.operations.table import ON_NATS
from muster.mesh.connection import connect, settled
from muster.mesh.version import PROTOCOL
from tests.broker.api.conftest import BLUEPRINT, Mesh, running
from tests.kit.servers import Nats
from tests.kit.waiting import deadline, eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

CREATE = "muster.api.orders.create"
BODY = b'{"blueprint":"hello","on":"web01"}'


async def ask(mesh: Mesh, subject: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
    """What the service answers, decoded."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else b""
    return json.loads((await mesh.nats.request(subject, data, timeout=10, headers=headers)).data)


def api_of(mesh: Mesh) -> NatsApi:
    """The service itself."""
    (found,) = [service for service in mesh.broker.services if isinstance(service, NatsApi)]
    return found


async def test_a_plain_request_makes_an_order(mesh: Mesh) -> None:
    (order,) = (await ask(mesh, CREATE, BODY))["orders"]
    assert (order["element"], order["created_by"], order["jobs"]) == ("web01", "nats", [])
    assert (await ask(mesh, "muster.api.orders.get", {"id": order["id"][:12]}))["id"] == order["id"]


async def test_the_answer_is_the_same_as_over_http(mesh: Mesh) -> None:
    over_http, (over_nats,) = await mesh.order(), (await ask(mesh, CREATE, BODY))["orders"]
    assert list(over_http) == list(over_nats)


async def test_elements_and_kinds_are_read_like_objects(mesh: Mesh) -> None:
    assert (await ask(mesh, "muster.api.objects.get", {"kind": "element", "name": "web01"}))["kind"] == "machine"
    kinds = (await ask(mesh, "muster.api.objects.list", {"kind": "kind"}))["items"]
    assert {"kind": "kind", "name": "machine", "is_element": True}.items() <= kinds[2].items()
    refused = await ask(mesh, "muster.api.objects.delete", {"kind": "element", "name": "web01"})
    assert refused["error"]["status"] == 422


@pytest.mark.parametrize("header", ["Nats-Msg-Id", "Idempotency-Key"])
async def test_a_message_id_makes_a_request_safe_to_repeat(mesh: Mesh, header: str) -> None:
    answers = [await ask(mesh, CREATE, BODY, {header: f"key-{header}"}) for _ in range(3)]
    assert len({answer["orders"][0]["id"] for answer in answers}) == 1


@pytest.mark.parametrize(
    ("subject", "body", "status", "words"),
    [
        (CREATE, b"{", 400, "JSON"),
        (CREATE, {"blueprnt": "hello", "on": 1}, 422, "blueprint"),
        (CREATE, {"blueprint": "helo", "on": "web01"}, 404, "hello"),
        ("muster.api.orders.get", {"id": "zzzzzzzz"}, 404, "zzzzzzzz"),
        ("muster.api.orders.list", {"limit": 100000}, 422, "limit"),
        ("muster.api.objects.get", {"kind": "machin", "name": "web01"}, 422, "machine"),
        ("muster.api.objects.apply", b"kind: machine\nname: X Y\n", 422, "name"),
        ("muster.api.elements.mode", {"element": "web01", "mode": "workin"}, 422, "mode"),
    ],
)
async def test_errors_are_problems_with_the_micro_headers(
    mesh: Mesh, subject: str, body: Any, status: int, words: str
) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = await mesh.nats.request(subject, data, timeout=10)
    problem = json.loads(answer.data)["error"]
    assert problem["status"] == status
    assert words in json.dumps(problem)
    assert answer.headers is not None
    assert answer.headers["Nats-Service-Error-Code"] == str(status)
    assert answer.headers["Nats-Service-Error"]


async def test_objects_and_elements_are_served_too(mesh: Mesh) -> None:
    manifest = {"kind": "machine", "name": "over-nats"}
    assert (await ask(mesh, "muster.api.objects.apply", manifest))["changes"][0]["action"] == "created"
    assert (await ask(mesh, "muster.api.objects.get", manifest))["version"] == 1
    page = await ask(mesh, "muster.api.objects.list", {"kind": "machine", "where": 'element.name == "over-nats"'})
    assert [item["name"] for item in page["items"]] == ["over-nats"]
    assert (await ask(mesh, "muster.api.elements.drain", {"element": "over-nats"}))["drained"] is True
    assert (await ask(mesh, "muster.api.elements.undrain", {"element": "over-nats"}))["drained"] is False
    mode = {"element": "over-nats", "mode": "workflow"}
    assert (await ask(mesh, "muster.api.elements.mode", mode))["mode"] == "workflow"
    assert await ask(mesh, "muster.api.objects.delete", manifest) == {"done": True}
    assert (await ask(mesh, "muster.api.info"))["version"] == __version__


async def test_an_agent_joins_and_leaves(mesh: Mesh) -> None:
    request = {"element": "joiner", "agent": "a1", "protocol": PROTOCOL}
    assert (await ask(mesh, "muster.agent.joiner.join", request))["assignment"]["element"] == "joiner"
    assert (await ask(mesh, "muster.api.objects.get", {"kind": "machine", "name": "joiner"}))["online"] is True
    assert await ask(mesh, "muster.agent.joiner.leave", request) == {"done": True}
    resume = {"order": "gone", "attempt": 1, "element": "joiner", "agent": "a1"}
    assert (await ask(mesh, "muster.agent.joiner.resume", resume))["drop"] is True


async def test_orders_are_listed_cancelled_retried_explained(mesh: Mesh) -> None:
    (order,) = (await ask(mesh, CREATE, BODY))["orders"]
    ref = {"id": order["id"]}
    assert (await ask(mesh, "muster.api.orders.list", {"limit": 1}))["items"][0]["id"] == order["id"]
    assert (await ask(mesh, "muster.api.orders.list"))["items"]
    assert (await ask(mesh, "muster.api.orders.explain", ref))["order"]["id"] == order["id"]
    assert (await ask(mesh, "muster.api.orders.cancel", ref))["state"] == "cancelled"
    assert (await ask(mesh, "muster.api.orders.retry", ref))["state"] in {"queued", "offered"}
    assert (await ask(mesh, "muster.api.orders.preview", BODY))["orders"][0]["element"] == "web01"


async def test_the_micro_protocol_answers(mesh: Mesh) -> None:
    ping = await ask(mesh, "$SRV.PING.muster")
    assert (ping["type"], ping["name"], ping["version"]) == ("io.nats.micro.v1.ping_response", "muster", __version__)
    info = await ask(mesh, f"$SRV.INFO.muster.{ping['id']}")
    assert info["type"] == "io.nats.micro.v1.info_response"
    subjects = {endpoint["subject"] for endpoint in info["endpoints"]}
    assert len(subjects) == len(ON_NATS)
    assert {CREATE, "muster.api.objects.apply", "muster.agent.*.join", "muster.api.info"} <= subjects
    assert {endpoint["queue_group"] for endpoint in info["endpoints"]} == {"muster"}


async def test_statistics_count_what_was_done_not_what_was_handed_over(mesh: Mesh) -> None:
    before = await stats(mesh)
    await ask(mesh, CREATE, BODY)
    await ask(mesh, CREATE, b"{")
    after = await stats(mesh)
    assert after["num_requests"] == before["num_requests"] + 2
    assert after["num_errors"] == before["num_errors"] + 1
    assert after["last_error"]
    assert after["processing_time"] > before["processing_time"]


async def stats(mesh: Mesh) -> dict[str, Any]:
    """The statistics of orders.create."""
    answer = await ask(mesh, "$SRV.STATS.muster")
    (found,) = [endpoint for endpoint in answer["endpoints"] if endpoint["subject"] == CREATE]
    return dict(found)


@pytest.mark.parametrize(
    "reply",
    ["muster.log.order.x.broker", "muster.inbox.orders", "$JS.API.STREAM.PURGE.MUSTER_LOG", "_INBOXX.y", "a", ""],
)
async def test_an_answer_goes_to_inboxes_only(mesh: Mesh, reply: str) -> None:
    heard: list[Msg] = []

    async def hear(message: Msg) -> None:
        heard.append(message)

    subscription = await mesh.nats.subscribe(reply, cb=hear) if reply else None
    await settled(mesh.nats)
    sequence, refused = mesh.broker.state.seq, api_of(mesh).refused
    await mesh.nats.publish(CREATE, BODY, reply=reply)
    await eventually(lambda: api_of(mesh).refused == refused + 1)
    await settled(mesh.nats)
    if subscription is not None:
        await subscription.unsubscribe()
    assert heard == []
    assert mesh.broker.state.seq == sequence


class Gate:
    """Holds every question for an order until it opens."""

    def __init__(self, mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waiting = 0
        self.open = asyncio.Event()
        self._order = mesh.broker.query.order
        monkeypatch.setattr(mesh.broker.query, "order", self._held)

    async def _held(self, prefix: str) -> Any:
        self.waiting += 1
        await self.open.wait()
        return await self._order(prefix)


async def test_many_requests_are_served_at_once(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    ident = (await mesh.order())["id"]
    gate = Gate(mesh, monkeypatch)
    asked = [asyncio.create_task(ask(mesh, "muster.api.orders.get", {"id": ident})) for _ in range(MAX_UNDER_WAY + 50)]
    await eventually(lambda: gate.waiting >= MAX_UNDER_WAY)
    assert gate.waiting == MAX_UNDER_WAY  # the others wait in line
    gate.open.set()
    async with deadline():
        answers = await asyncio.gather(*asked)
    assert {answer["id"] for answer in answers} == {ident}


async def test_a_request_beyond_the_line_is_asked_to_retry(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    ident = (await mesh.order())["id"]
    gate = Gate(mesh, monkeypatch)
    monkeypatch.setattr("muster.broker.api.nats.MAX_LINE", 1)  # there is capacity for one
    asked = [asyncio.create_task(ask(mesh, "muster.api.orders.get", {"id": ident})) for _ in range(MAX_UNDER_WAY + 3)]
    await eventually(lambda: sum(task.done() for task in asked) == 2)
    assert {task.result()["error"]["status"] for task in asked if task.done()} == {503}
    assert gate.waiting == MAX_UNDER_WAY
    gate.open.set()
    async with deadline():
        answers = await asyncio.gather(*asked)
    assert [answer.get("id", "") for answer in answers].count(ident) == MAX_UNDER_WAY + 1


async def test_what_is_under_way_is_answered_before_a_broker_goes(
    fresh_nats: Nats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connect(fresh_nats.url, name="asks") as client:
        async with running(fresh_nats, tmp_path) as mesh:
            await mesh.apply({"kind": "machine", "name": "web01"}, BLUEPRINT)
            ident = (await mesh.order())["id"]
            gate = Gate(mesh, monkeypatch)
            body = json.dumps({"id": ident}).encode()
            asked = asyncio.create_task(client.request("muster.api.orders.get", body, timeout=10))
            await eventually(lambda: gate.waiting == 1)
            stop = api_of(mesh)._end
            monkeypatch.setattr(api_of(mesh), "_end", lambda service: opened(gate, stop(service)))
        async with deadline():
            assert json.loads((await asked).data)["id"] == ident


async def opened(gate: Gate, following: Awaitable[None]) -> None:
    """Open the gate, once the broker is about to go."""
    gate.open.set()
    await following


async def test_a_bug_answers_and_does_not_end_the_service(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_: str) -> None:
        raise ZeroDivisionError("the inside")

    with monkeypatch.context() as patch:
        patch.setattr(mesh.broker.query, "order", broken)
        error = (await ask(mesh, "muster.api.orders.get", {"id": "x"}))["error"]
    assert (error["status"], "the inside" in json.dumps(error)) == (500, False)
    assert (await ask(mesh, CREATE, BODY))["orders"]


async def test_every_subject_is_one_of_the_api(mesh: Mesh) -> None:
    assert mesh.url
    for operation in ON_NATS:
        assert operation.summary
        assert operation.subject.startswith(("muster.api.", "muster.agent.*."))
