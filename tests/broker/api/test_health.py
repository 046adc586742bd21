"""How the broker reports its state."""

from __future__ import annotations

import asyncio
import time

import pytest

from muster import __version__
from muster.broker.finals import Finals
from muster.mesh.embedded_nats import EmbeddedNats
from muster.mesh.events import KINDS
from muster.mesh.http import HttpServer
from tests.broker.api.conftest import Mesh
from tests.broker.api.streams import events
from tests.broker.api.test_problems import problem
from tests.kit.waiting import deadline, eventually

shared = pytest.mark.asyncio(loop_scope="session")


@shared
async def test_a_healthy_broker_says_so(mesh: Mesh) -> None:
    assert (await mesh.http.get("/healthz")).text == "ok\n"
    assert (await mesh.http.get("/readyz")).text == "ready\n"


@shared
async def test_a_head_request_is_answered_too(mesh: Mesh) -> None:
    for path in ("/healthz", "/readyz"):
        answer = await mesh.http.head(path)
        assert (answer.status_code, answer.text) == (200, "")


@shared
async def test_info_reports_version_counts_and_lag(mesh: Mesh) -> None:
    info = (await mesh.http.get("/api/v1/info")).json()
    assert (info["version"], info["durability"], info["broker"]) == (__version__, "fast", mesh.broker.id)
    assert info["objects"]["blueprint"] >= 1
    assert info["elements"] >= 1
    assert info["lag"] >= 0


@shared
async def test_metrics_count_every_kind_of_event(mesh: Mesh) -> None:
    before = await sample(mesh, "muster_order_created_total")
    await mesh.order()

    async def counted() -> bool:
        return await sample(mesh, "muster_order_created_total") == before + 1

    await eventually(counted)
    text = (await mesh.http.get("/metrics")).text
    for kind in KINDS:
        assert f"muster_{kind.replace('.', '_')}_total" in text
    assert 'muster_orders_open{state="offered"}' in text
    assert "muster_elements_online" in text


async def sample(mesh: Mesh, name: str) -> float:
    """One figure of `/metrics`."""
    answer = await mesh.http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    (line,) = [line for line in answer.text.splitlines() if line.startswith(f"{name} ")]
    return float(line.split()[1])


async def test_a_broker_without_its_server_is_alive_but_not_ready(own_mesh: Mesh, own_nats: EmbeddedNats) -> None:
    await own_nats.__aexit__(None, None, None)

    async def not_ready() -> bool:
        return (await own_mesh.http.get("/readyz")).status_code == 503

    await eventually(not_ready)
    assert "NATS" in problem(await own_mesh.http.get("/readyz"), 503)["detail"]
    assert (await own_mesh.http.get("/healthz")).status_code == 200


async def test_streams_and_waits_end_when_the_broker_does(own_mesh: Mesh) -> None:
    order = await own_mesh.order()
    await own_mesh.broker.recorder.caught_up()  # its event was published
    (server,) = [one for one in own_mesh.broker.services if isinstance(one, HttpServer)]
    (finals,) = [one for one in own_mesh.broker.services if isinstance(one, Finals)]
    path = f"/api/v1/orders/{order['id']}"
    async with (
        deadline(5),
        events(own_mesh.http, "/api/v1/events") as stream,
        events(own_mesh.http, f"{path}/output", params={"follow": "true"}) as output,
    ):
        waiting = asyncio.create_task(own_mesh.http.get(path, params={"wait": 30}))
        await eventually(lambda: len(finals._waiters[order["id"]]) > 1)
        await server.__aexit__(None, None, None)
        assert await anext(stream, None) is None
        assert await anext(output, None) is None
        assert (await waiting).json()["state"] == "offered"


@shared
async def test_an_answer_is_not_held_back_by_delayed_acknowledgements(mesh: Mesh) -> None:
    took = []
    for _ in range(15):
        start = time.perf_counter()
        await mesh.http.get("/healthz")
        took.append(time.perf_counter() - start)
    assert min(took) < 0.03  # Nagle's algorithm against delayed acknowledgements: 0.04 each, however fast the machine
