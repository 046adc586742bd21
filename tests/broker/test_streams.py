from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client
from nats.js.api import StreamConfig

from muster.broker.streams import StreamSettings, change, ensure
from muster.mesh import disk, names
from muster.mesh.connection import connect
from muster.mesh.embedded_nats import EmbeddedNats, find_server
from muster.mesh.errors import RefusedError, StorageError
from tests.kit.ports import free_port
from tests.kit.processes import Program


async def test_copies_on_a_server_alone_are_refused_in_words(nats_server: EmbeddedNats) -> None:
    async with connect(nats_server.url, name="test") as client:
        with pytest.raises(RefusedError, match="3 copies of each stream need a NATS cluster"):
            await ensure(client, StreamSettings(replicas=3))


@asynccontextmanager
async def others_server(folder: Path, limit: int, **config: Any) -> AsyncIterator[Client]:
    """A connection to a server that somebody else runs, with so many bytes for all its streams."""
    port = free_port()
    folder.mkdir(exist_ok=True)
    settings = {"host": "127.0.0.1", "port": port, **config}
    settings["jetstream"] = {"store_dir": str(folder), "max_file_store": limit, "max_memory_store": disk.GIB}
    (folder / "nats.json").write_text(json.dumps(settings))
    async with (
        Program.start([find_server(), "-c", str(folder / "nats.json")]) as server,
        connect(f"nats://127.0.0.1:{port}", name="test", within=20) as client,
    ):
        yield client
        await server.stop()


@pytest.mark.parametrize(
    ("limit", "least", "most"),
    [
        (8 * disk.MIB, 0.4, 0.8),
        (disk.GIB, 51.2, 102.4),
        (9 * disk.GIB, 460, 922),
        (200 * disk.GIB, 8192, 8192),
    ],
)
async def test_output_reserves_a_tenth_of_what_a_server_has_at_most(
    tmp_path: Path, limit: int, least: float, most: float
) -> None:
    async with others_server(tmp_path, limit) as client:
        js = client.jetstream()
        await ensure(client, StreamSettings())
        reserved = (await js.stream_info(names.OUTPUT_STREAM)).config.max_bytes or 0
        assert least <= reserved / disk.MIB <= most
        await ensure(client, StreamSettings())
        assert (await js.stream_info(names.OUTPUT_STREAM)).config.max_bytes == reserved


async def test_an_account_with_a_limit_of_its_own_is_asked_for_no_more(tmp_path: Path) -> None:
    account = {"users": [{"user": "m", "password": "m"}], "jetstream": {"max_file": 50 * disk.MIB, "max_mem": disk.MIB}}
    config = {"accounts": {"M": account}, "no_auth_user": "m"}
    async with others_server(tmp_path, disk.GIB, **config) as client:
        await ensure(client, StreamSettings())
        reserved = (await client.jetstream().stream_info(names.OUTPUT_STREAM)).config.max_bytes or 0
        assert 2.4 <= reserved / disk.MIB <= 5


async def test_streams_that_are_right_need_no_space(tmp_path: Path) -> None:
    async with others_server(tmp_path, disk.GIB) as client:
        js = client.jetstream()
        await ensure(client, StreamSettings())
        await js.add_stream(StreamConfig(name="ELSE", subjects=["else"], max_bytes=900 * disk.MIB))
    async with others_server(tmp_path, 500 * disk.MIB) as client:
        js = client.jetstream()
        await ensure(client, StreamSettings())  # a change of any stream is refused by now
        with pytest.raises(StorageError, match="no space left on the disk of the NATS server"):
            await change(client, StreamSettings(output_age=StreamSettings().output_age / 2))


async def test_a_server_whose_streams_took_all_says_that_there_is_no_space(tmp_path: Path) -> None:
    async with others_server(tmp_path, 100 * disk.MIB) as client:
        await client.jetstream().add_stream(StreamConfig(name="ELSE", subjects=["else"], max_bytes=100 * disk.MIB))
        with pytest.raises(StorageError, match="no space left on the disk of the NATS server"):
            await ensure(client, StreamSettings())
