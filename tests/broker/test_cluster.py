"""A mesh on a NATS cluster of three servers: its copies are a setting of the mesh, and no broker's default."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import nats.errors
import pytest
from nats.aio.client import Client
from nats.js.errors import APIError

from muster.blueprints.manifest import load
from muster.broker.api.context import ApiSettings
from muster.broker.main import Broker, BrokerSettings
from muster.mesh import names
from muster.mesh.caller import Caller
from muster.mesh.connection import connect
from muster.mesh.embedded_nats import find_server
from muster.mesh.jetstream_api import ask, stream_config
from tests.kit.ports import free_port
from tests.kit.processes import Program
from tests.kit.waiting import eventually

STREAMS = (names.LOG_STREAM, names.WORK_STREAM, names.OUTPUT_STREAM, names.INBOX_STREAM)


@asynccontextmanager
async def cluster(folder: Path, servers: int = 3) -> AsyncIterator[str]:
    """The URLs of servers that form a cluster, once it can create streams."""
    ports, routes = [free_port() for _ in range(servers)], [free_port() for _ in range(servers)]
    async with AsyncExitStack() as stack:
        for number, (port, route) in enumerate(zip(ports, routes, strict=True)):
            place = folder / f"server{number}"
            place.mkdir(parents=True)
            others = [f"nats://127.0.0.1:{other}" for other in routes if other != route]
            config = {
                "server_name": f"s{number}",
                "host": "127.0.0.1",
                "port": port,
                "jetstream": {"store_dir": str(place)},
                "cluster": {"name": "c", "host": "127.0.0.1", "port": route, "routes": others},
            }
            (place / "nats.json").write_text(json.dumps(config))
            await stack.enter_async_context(Program.start([find_server(), "-c", str(place / "nats.json")]))
        url = ",".join(f"nats://127.0.0.1:{port}" for port in ports)
        client = await stack.enter_async_context(connect(url, name="test", within=30))
        await eventually(lambda: can_store(client, servers), 60, "a cluster that stores")
        yield url


async def can_store(client: Client, replicas: int) -> bool:
    try:
        await ask(client, "STREAM.CREATE.READY", {"name": "READY", "num_replicas": replicas, "storage": "memory"})
        await ask(client, "STREAM.DELETE.READY")
    except (APIError, nats.errors.Error, TimeoutError):
        return False
    return True


async def copies(client: Client) -> set[int]:
    return {(await stream_config(client, stream))["num_replicas"] for stream in STREAMS}


def settings(url: str, data: Path, replicas: int | None) -> BrokerSettings:
    api = ApiSettings(port=0)
    return BrokerSettings(
        server=url, open=True, data=data, api=api, durability="fast", ready_line=False, replicas=replicas
    )


@pytest.mark.timeout(240)
async def test_a_broker_without_the_flag_keeps_three_copies_until_they_are_changed(tmp_path: Path) -> None:
    async with cluster(tmp_path) as url:
        async with AsyncExitStack() as stack:
            first = Broker(settings(url, tmp_path / "first", 3))
            await first.start(stack)
            assert await copies(first.client) == {3}
        async with AsyncExitStack() as stack:
            broker = Broker(settings(url, tmp_path / "second", None))
            await broker.start(stack)
            assert await copies(broker.client) == {3}
            assert (await broker.query.object("mesh", "mesh"))["replicas"] == 3
            await broker.commands.objects.apply(load("kind: mesh\nname: mesh\nreplicas: 1"), by=Caller(door="test"))

            async def is_followed() -> bool:
                return await copies(broker.client) == {1}

            await eventually(is_followed, 60, "one copy of each stream")
