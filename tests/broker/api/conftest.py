"""A real broker on a real server, spoken to over loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import pytest_asyncio
from nats.aio.client import Client

from muster.broker.api.context import ApiSettings
from muster.broker.main import Broker, BrokerSettings
from muster.mesh.connection import connect
from muster.mesh.http import HttpServer
from tests.kit.http import http_client
from tests.kit.servers import AccountServer, Nats

BLUEPRINT = {
    "kind": "blueprint",
    "name": "hello",
    "inputs": {"who": {"type": "string", "default": "you"}, "times": {"type": "integer", "default": 1, "minimum": 1}},
    "tasks": [{"name": "greet", "run": "echo hello"}],
}


class Mesh(msgspec.Struct, frozen=True, kw_only=True):
    """What a test speaks to."""

    broker: Broker
    http: httpx.AsyncClient
    nats: Client
    url: str

    async def apply(self, *manifests: dict[str, Any]) -> None:
        """Apply manifests, and insist that it works."""
        body = "\n---\n".join(msgspec.json.encode(manifest).decode() for manifest in manifests)
        answer = await self.http.post("/api/v1/apply", content=body)
        assert answer.status_code == 200, answer.text

    async def order(self, on: str = "web01", **more: Any) -> dict[str, Any]:
        """Make one order."""
        answer = await self.http.post("/api/v1/orders", json={"blueprint": "hello", "on": on, **more})
        assert answer.status_code == 201, answer.text
        order: dict[str, Any] = answer.json()["orders"][0]
        return order


@asynccontextmanager
async def running(nats: Nats, folder: Path, **settings: Any) -> AsyncIterator[Mesh]:
    """A broker on `nats`, and clients of it."""
    api = ApiSettings(port=0, grace=1.0, **settings)
    headers = {"Authorization": f"Bearer {api.token}"} if api.token else {}
    own = BrokerSettings(server=nats.url, open=True, data=folder, api=api, durability="fast", ready_line=False)
    broker = Broker(own)
    async with AsyncExitStack() as stack:
        await broker.start(stack)
        (server,) = (service for service in broker.services if isinstance(service, HttpServer))
        client = await stack.enter_async_context(connect(nats.url, name="test"))
        http = await stack.enter_async_context(http_client(server.url, headers=headers, timeout=10))
        yield Mesh(broker=broker, http=http, nats=client, url=server.url)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def mesh(nats_server: AccountServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    """One mesh for all tests that only add to it: machine web01, pool web, blueprint hello."""
    async with nats_server.account() as nats, running(nats, tmp_path_factory.mktemp("api")) as found:
        pool = {"kind": "pool", "name": "web", "where": 'element.labels.role == "web"'}
        machine = {"kind": "machine", "name": "web01", "labels": {"role": "web"}}
        await found.apply(BLUEPRINT, machine, pool)
        yield found


@pytest_asyncio.fixture
async def own_mesh(fresh_nats: Nats, tmp_path: Path) -> AsyncIterator[Mesh]:
    """A mesh of the test's own, empty except for the blueprint and web01."""
    async with running(fresh_nats, tmp_path) as found:
        await found.apply(BLUEPRINT, {"kind": "machine", "name": "web01"})
        yield found
