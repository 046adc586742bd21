"""A role whose connection the NATS server closed for good ends, so that what supervises it starts it again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.kit.processes import clean_env, running
from tests.kit.waiting import deadline

pytestmark = pytest.mark.slow


class Between:
    """Passes on what client and server say, until it speaks itself."""

    def __init__(self, server: str) -> None:
        self._server = urlsplit(server)
        self._clients: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A client has come."""
        there, back = await asyncio.open_connection(self._server.hostname, self._server.port)
        self._clients.append(writer)
        for source, target in ((reader, back), (there, writer)):
            self._tasks.add(asyncio.create_task(_pass_on(source, target)))

    def refuse(self) -> None:
        """Say to every client what a server says before it closes."""
        for client in self._clients:
            client.write(b"-ERR 'Unknown Protocol Operation'\r\n")

    async def end(self) -> None:
        """Leave nothing behind."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
    except OSError:
        pass
    finally:
        target.close()


@asynccontextmanager
async def between(server: str) -> AsyncIterator[tuple[Between, str]]:
    """A proxy, and its URL."""
    proxy = Between(server)
    listening = await asyncio.start_server(proxy.met, "127.0.0.1", 0)
    async with listening:
        host, port = listening.sockets[0].getsockname()
        yield proxy, f"nats://{host}:{port}"
        await proxy.end()


async def test_a_role_whose_connection_is_closed_for_good_ends_and_says_why(tmp_path: Path) -> None:
    env = clean_env(tmp_path, MUSTER_DATA=str(tmp_path / "data"), MUSTER_NATS_TOKEN="of-the-proxy-too")
    roles = {
        "broker": ("--http", "127.0.0.1:0"),
        "triggers": ("--http", "127.0.0.1:0"),
        "agent": ("--element", "web01"),
    }
    async with deadline(60), running("server", "--nats", "127.0.0.1:0", env=env) as server:
        nats = (await server.line("ready nats=")).partition("=")[2]
        async with running("broker", "--server", nats, "--http", "127.0.0.1:0", env=env) as broker:
            await broker.line("ready broker api=")
            for role, options in roles.items():
                data = str(tmp_path / role)
                async with between(nats) as (proxy, url):
                    more = ("--data", data) if role != "triggers" else ()
                    async with running(role, "--server", url, *more, *options, env=env) as program:
                        await program.line(f"{role}.ready", stream="err")
                        proxy.refuse()
                        said = await program.line("closed for good", stream="err")
                        assert "unknown protocol operation" in said
                        assert await program.ended() == 4
