"""The hooks on a real socket, with a `fire` that remembers what it was given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec

from muster.mesh import names
from muster.mesh.errors import NotFoundError
from muster.mesh.firing import FireReply, FireRequest, FiringState
from muster.mesh.http import HttpServer
from muster.triggers.definitions import Trigger
from muster.triggers.hooks import Hooks, HookSettings
from tests.kit.http import http_client
from tests.triggers.definition import trigger

SECRET = "it is a secret"


class Known:
    """Triggers by name, without a broker."""

    def __init__(self) -> None:
        self.triggers: dict[str, Trigger] = {}
        self.newer: dict[str, Trigger] = {}
        """What a broker would answer."""

    def add(self, name: str, provider: str, version: int = 1, **settings: Any) -> Trigger:
        """A trigger, as if it had been applied."""
        self.triggers[name] = made = trigger(name, provider, settings, version=version)
        return made

    def known(self, name: str) -> Trigger | None:
        return self.triggers.get(name)

    async def get(self, name: str) -> Trigger:
        raise NotFoundError(f"there is no trigger {name!r}")

    async def refreshed(self, name: str) -> Trigger:
        return self.newer.get(name) or self.triggers[name]


class Fired:
    """Replaces the broker: remembers firings and their keys."""

    def __init__(self) -> None:
        self.requests: list[FireRequest] = []
        self.answer: Callable[[FireRequest], Awaitable[FireReply]] | None = None
        self._keys: dict[tuple[str, str], FireReply] = {}

    async def __call__(self, request: FireRequest) -> FireReply:
        msgspec.json.encode(request)  # it must fit on the wire
        if self.answer is not None:
            return await self.answer(request)
        place = request.trigger, request.key
        if request.key and place in self._keys:
            return msgspec.structs.replace(self._keys[place], duplicate=True)
        self.requests.append(request)
        reply = FireReply(firing=names.new_id(), state=FiringState.FIRED, orders=(names.new_id(),))
        self._keys[place] = reply
        return reply

    @property
    def last(self) -> dict[str, Any]:
        """The last firing's event."""
        return self.requests[-1].event


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """What a test speaks to."""

    known: Known
    fired: Fired
    hooks: Hooks
    http: httpx.AsyncClient
    url: str

    async def post(
        self, name: str, body: bytes | str = b"{}", headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """Deliver."""
        raw = {name.encode(): value.encode() for name, value in (headers or {}).items()}
        return await self.http.post(f"/hooks/{name}", content=body, headers=raw)

    async def sent(self, data: bytes, *, end: bool = False) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection of its own, with these bytes on their way."""
        address = httpx.URL(self.url)
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(data)
        await writer.drain()
        if end:
            writer.write_eof()
        return reader, writer


async def raw(url: str, path: str, body: bytes, **headers: str) -> tuple[int, bytes]:
    """Deliver over a connection of its own: httpx takes a minute for a thousand at once."""
    address = httpx.URL(url)
    head = f"POST {path} HTTP/1.1\r\nhost: {address.host}\r\nconnection: close\r\ncontent-length: {len(body)}\r\n"
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(f"{head}{lines}\r\n".encode() + body)
    answer = await reader.read()
    writer.close()
    return int(answer[9:12]), answer.partition(b"\r\n\r\n")[2]


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[Served]:
    """The hooks, on a free port of loopback."""
    known, fired = Known(), Fired()
    hooks = Hooks(known, fired, HookSettings(**settings))
    async with (
        HttpServer(hooks, "127.0.0.1", 0, grace=1) as server,
        http_client(server.url, timeout=20) as http,
    ):
        yield Served(known=known, fired=fired, hooks=hooks, http=http, url=server.url)


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The problem that an answer reports."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    reported: dict[str, Any] = answer.json()
    assert reported["status"] == status
    assert reported["title"]
    return reported
