"""The bearer token."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from muster.mesh.addresses import is_loopback
from muster.mesh.embedded_nats import EmbeddedNats, NatsSettings
from tests.broker.api.conftest import Mesh, running
from tests.broker.api.test_problems import problem
from tests.kit.http import http_client

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROTECTED = ("/api/v1/orders", "/api/v1/info", "/metrics", "/schema/openapi.json", "/api/v1/events", "/api/v1/machines")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    """A mesh that asks for a token, on an address that others reach."""
    settings = NatsSettings(folder=tmp_path_factory.mktemp("auth-nats"), durability="fast")
    async with EmbeddedNats(settings) as nats, running(nats, tmp_path_factory.mktemp("auth"), token="secret") as mesh:
        yield mesh


@pytest.mark.parametrize("path", PROTECTED)
@pytest.mark.parametrize("header", [None, "Bearer", "Bearer wrong", "Basic secret", "secret", "Bearer s\u00e9c"])
async def test_without_the_token_nothing_is_reported(guarded: Mesh, path: str, header: str | None) -> None:
    headers = {"Authorization": header.encode()} if header else {}
    async with http_client(guarded.url) as stranger:
        answer = await stranger.get(path, headers=headers)  # type: ignore[arg-type]
    problem(answer, 401)
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_health_needs_no_token(guarded: Mesh, path: str) -> None:
    async with http_client(guarded.url) as stranger:
        assert (await stranger.get(path)).status_code == 200


async def test_with_the_token_everything_answers(guarded: Mesh) -> None:
    assert (await guarded.http.get("/api/v1/info")).status_code == 200
    lower = {"Authorization": "bearer secret"}
    assert (await guarded.http.get("/api/v1/info", headers=lower)).status_code == 200


async def test_a_body_is_not_read_before_the_token(guarded: Mesh) -> None:
    async with http_client(guarded.url) as stranger:
        problem(await stranger.post("/api/v1/orders", content=b" " * 10_000_000), 401)


async def test_on_another_address_without_a_token_only_a_name_that_nobody_can_bend_is_answered(tmp_path: Path) -> None:
    settings = NatsSettings(folder=tmp_path / "nats", durability="fast")
    async with EmbeddedNats(settings) as nats, running(nats, tmp_path, host="0.0.0.0") as mesh:
        for host in ("127.0.0.1:1", "10.1.2.3:8642", "[fd00::1]", "localhost", socket.gethostname()):
            assert (await mesh.http.get("/api/v1/info", headers={"Host": host})).status_code == 200, host
        for host in ("evil.example", f"{socket.gethostname()}.evil.example", "10.1.2.3.evil.example"):
            problem(await mesh.http.get("/api/v1/info", headers={"Host": host}), 403)


async def test_loopback_is_distinguished_from_the_world() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "example.org", "")] == [False] * 5


BODY = b'{"blueprint": "hello", "on": "web01"}'


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://["])
@pytest.mark.asyncio(loop_scope="function")
async def test_a_page_of_another_site_cannot_make_orders(own_mesh: Mesh, origin: str) -> None:
    headers = {"Origin": origin, "Content-Type": "text/plain"}  # what a browser sends without asking first
    problem(await own_mesh.http.post("/api/v1/orders", content=BODY, headers=headers), 403)
    assert (await own_mesh.http.get("/api/v1/orders")).json()["items"] == []


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil"])
@pytest.mark.asyncio(loop_scope="function")
async def test_a_name_that_was_bent_to_loopback_is_refused(own_mesh: Mesh, host: str) -> None:
    problem(await own_mesh.http.get("/api/v1/orders", headers={"Host": host}), 403)


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:8642"])
@pytest.mark.asyncio(loop_scope="function")
async def test_loopback_may_be_called_by_its_names(own_mesh: Mesh, host: str) -> None:
    answer = await own_mesh.http.post(
        "/api/v1/orders", content=BODY, headers={"Host": host, "Origin": f"http://{host}"}
    )
    assert answer.status_code == 201
