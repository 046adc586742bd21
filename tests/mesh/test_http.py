"""The HTTP server that broker and triggers share."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterator

import httpx
import pytest

from muster.mesh.asgi import Receive, Scope, Send, mounted
from muster.mesh.errors import RefusedError
from muster.mesh.http import HttpServer
from tests.kit.http import http_client


async def echo(scope: Scope, _: Receive, send: Send) -> None:
    """Answers with the path."""
    path = scope["path"].encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(path))]})
    await send({"type": "http.response.body", "body": path})


async def flood(_: Scope, __: Receive, send: Send) -> None:
    """Answers with a lot, in parts of all sizes."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for number in range(200):
        await send({"type": "http.response.body", "body": b"%d" % (number % 10) * number * 100, "more_body": True})
    await send({"type": "http.response.body", "body": b"end"})


async def test_requests_go_where_their_path_begins() -> None:
    async def other(scope: Scope, receive: Receive, send: Send) -> None:
        await echo(scope | {"path": "other" + scope["path"]}, receive, send)

    app = mounted(echo, {"/hooks/": other})
    async with HttpServer(app, "127.0.0.1", 0) as server, http_client(server.url) as http:
        for path, expected in (("/hooks/a", "other/hooks/a"), ("/hooks", "/hooks"), ("/x/hooks/a", "/x/hooks/a")):
            assert (await http.get(path)).text == expected


async def test_an_answer_is_whole_however_it_was_written() -> None:
    expected = b"".join(b"%d" % (number % 10) * number * 100 for number in range(200)) + b"end"
    async with HttpServer(flood, "127.0.0.1", 0) as server, http_client(server.url) as http:
        answers = await asyncio.gather(*[http.get("/") for _ in range(5)])
    assert all(answer.content == expected for answer in answers)


async def test_a_caller_who_hangs_up_disturbs_nobody() -> None:
    async with HttpServer(flood, "127.0.0.1", 0) as server, http_client(server.url) as http:
        url = httpx.URL(server.url)
        for _ in range(20):
            _, writer = await asyncio.open_connection(url.host, url.port)
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            writer.transport.abort()
        assert (await http.get("/")).content.endswith(b"end")


async def test_an_address_that_is_taken_is_refused() -> None:
    async with HttpServer(echo, "127.0.0.1", 0) as server:
        with pytest.raises(RefusedError, match="cannot listen"):
            HttpServer(echo, "127.0.0.1", httpx.URL(server.url).port or 0)


@pytest.fixture
def few_files() -> Iterator[None]:
    """A process that may open few files until it asks for more."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("few_files")
async def test_a_server_makes_room_for_connections() -> None:
    async with HttpServer(echo, "127.0.0.1", 0):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert soft == min(hard, 65536)
