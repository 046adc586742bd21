"""What a caller may cost before anything is known of it: bytes, seconds and connections."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import repeat
from typing import Any

import httpx
import psutil
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from muster.mesh import http_bounds
from muster.mesh.asgi import Receive, Scope, Send
from muster.mesh.http import HttpServer
from tests.kit.http import http_client
from tests.kit.waiting import deadline, eventually

GOOD = b"GET /good HTTP/1.1\r\nhost: x\r\n\r\n"
POST = b"POST /read HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
CHUNK = b"1\r\na\r\n"


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """`/read` reads the body, `/hang` never answers; all else is answered at once."""
    if scope["path"] == "/hang":
        await receive()
        await receive()
    while scope["path"] == "/read":
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        if not message.get("more_body"):
            break
    body = scope["path"].encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@pytest_asyncio.fixture
async def server() -> AsyncIterator[HttpServer]:
    async with HttpServer(app, "127.0.0.1", 0, grace=0.1) as running:
        yield running


class Caller:
    """A connection on which anything may be said."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def says(self, *parts: bytes) -> None:
        """Write all of it, or as much as is taken."""
        with suppress(ConnectionError):
            for part in parts:
                self.writer.write(part)
                await self.writer.drain()

    async def answer(self) -> tuple[int, bytes]:
        """Status and body of the next answer; 0 if the connection was closed without one."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return 0, b""
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        return int(head.split()[1]), await self.reader.readexactly(length)

    async def stays_open(self, seconds: float) -> bool:
        """Whether the server says nothing for so long."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        reader: Any = self.reader
        with suppress(TimeoutError):
            async with asyncio.timeout_at(end):
                await reader._wait_for_data("stays_open")
        return not reader._buffer and not reader.at_eof()

    async def is_closed(self) -> bool:
        """Wait until the server has closed it."""
        with suppress(ConnectionError):
            assert await self.reader.read() == b""
        return True


@asynccontextmanager
async def caller(server: HttpServer) -> AsyncIterator[Caller]:
    url = httpx.URL(server.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        yield Caller(reader, writer)
    finally:
        writer.transport.abort()


def endless(start: bytes, part: bytes, size: int = 60_000_000) -> Iterator[bytes]:
    """A start, and then the same again and again."""
    block = part * (65_536 // len(part))
    yield start
    yield from repeat(block, size // len(block))


HEADS = {
    "many headers": (b"GET / HTTP/1.1\r\nhost: x\r\n", b"X-1: a\r\n"),
    "a long header": (b"GET / HTTP/1.1\r\nhost: x\r\nX-1: ", b"a"),
    "a long name": (b"GET / HTTP/1.1\r\nhost: x\r\n", b"a"),
    "a long target": (b"GET /", b"a"),
    "a long method": (b"", b"\r\n"),
    "trailers": (POST + b"0\r\n", b"X-1: a\r\n"),
    "a long trailer": (POST + b"0\r\nX-1: ", b"a"),
    "a chunk's extension": (POST + b"1;", b"a"),
    "behind a good request": (GOOD + b"GET / HTTP/1.1\r\nhost: x\r\n", b"X-1: a\r\n"),
}


@pytest.mark.parametrize(("start", "part"), HEADS.values(), ids=HEADS)
async def test_an_endless_head_is_refused_before_it_costs_memory(server: HttpServer, start: bytes, part: bytes) -> None:
    before = psutil.Process().memory_info().rss
    async with deadline(20), caller(server) as mallory:
        saying = asyncio.create_task(mallory.says(*endless(start, part)))
        status, body = await mallory.answer()
        if status == 200:
            status, body = await mallory.answer()
        assert status in {431, 400, 0}  # 0: what we sent after the answer may have reset the connection before it came
        if status == 431:
            problem = json.loads(body)
            assert problem["status"] == 431
            assert "64 KiB" in problem["detail"]
        await saying
    assert psutil.Process().memory_info().rss - before < 40 * 2**20
    async with http_client(server.url) as http:
        assert (await http.get("/good")).text == "/good"


async def test_too_large_a_head_is_answered(server: HttpServer) -> None:
    for head in (b"x: " + b"a" * 66_000, b"\r\n".join([b"x: a"] * 300)):
        async with deadline(10), caller(server) as client:
            await client.says(b"GET / HTTP/1.1\r\nhost: x\r\n" + head)
            status, body = await client.answer()
            assert (status, json.loads(body)["type"]) == (431, "urn:muster:problem:too-large")
            assert await client.is_closed()


async def test_a_few_requests_in_a_row_are_answered_in_order(server: HttpServer) -> None:
    async with deadline(10), caller(server) as client:
        await client.says(b"".join(b"GET /%d HTTP/1.1\r\nhost: x\r\n\r\n" % number for number in range(50)))
        assert [await client.answer() for _ in range(50)] == [(200, b"/%d" % number) for number in range(50)]


@pytest.mark.parametrize("start", [b"", b"GET /hang HTTP/1.1\r\nhost: x\r\n\r\n"], ids=["answered", "one hangs"])
async def test_endless_requests_in_a_row_are_cut_before_they_cost_memory(server: HttpServer, start: bytes) -> None:
    before = psutil.Process().memory_info().rss
    with capture_logs() as logs:
        async with deadline(20), caller(server) as mallory:
            await mallory.says(*endless(start, GOOD, size=10_000_000))
            with suppress(ConnectionError):
                await mallory.reader.read()
    assert psutil.Process().memory_info().rss - before < 40 * 2**20
    assert [line["event"] for line in logs] == ["http.queued_too_many"]


@pytest.mark.parametrize("size", [1, 7, 1000, 70_000])
async def test_large_heads_and_bodies_within_the_bounds_are_taken(server: HttpServer, size: int) -> None:
    headers = b"".join(b"x-%d: %s\r\n" % (number, b"a" * 200) for number in range(200))
    chunks = b"".join(b"%x;x=1\r\n%s\r\n" % (length, b"b" * length) for length in (1, 100_000, 17))
    request = POST[:-2] + headers + b"\r\n" + chunks + b"0\r\nx: y\r\n\r\n"
    async with deadline(20), caller(server) as client:
        whole = request * 3
        for start in range(0, len(whole), max(size, 100) if size < 100 else size):
            await client.says(whole[start : start + max(size, 100)] if size < 100 else whole[start : start + size])
        assert [await client.answer() for _ in range(3)] == [(200, b"/read")] * 3


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little time for everything."""
    for name in ("HEAD_TIMEOUT", "BODY_TIMEOUT", "REST_TIMEOUT"):
        monkeypatch.setattr(http_bounds, name, 0.3)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    ("start", "status"),
    [
        (b"", 0),
        (b"GET / HT", 408),
        (b"GET / HTTP/1.1\r\nhost: x\r\n", 408),
        (b"\r\n", 408),
        (POST, 408),
        (POST + CHUNK, 408),
        (POST + b"0\r\nx: y\r\n", 408),
        (b"POST /hang HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\na", 408),
    ],
)
async def test_a_request_that_never_ends_is_closed(server: HttpServer, start: bytes, status: int) -> None:
    async with deadline(10), caller(server) as client:
        await client.says(start)
        got, _ = await client.answer()
        assert got == status
        assert await client.is_closed()


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("start", [b"G", b"GET / HTTP/1.1\r\n", b"\r\n"])
async def test_a_later_request_has_its_own_time_from_its_first_byte(server: HttpServer, start: bytes) -> None:
    async with deadline(10), caller(server) as client:
        await client.says(GOOD)
        assert await client.answer() == (200, b"/good")
        assert await client.stays_open(0.6)  # while nothing of the next request comes
        await client.says(GOOD)
        assert await client.answer() == (200, b"/good")
        await client.says(start)
        assert (await client.answer())[0] == 408
        assert await client.is_closed()


@pytest.mark.usefixtures("hasty")
async def test_a_drop_now_and_then_gains_no_time(server: HttpServer) -> None:
    async with deadline(10), caller(server) as client:
        await client.says(b"GET / HTTP/1.1\r\nhost: x\r\n")
        while await client.stays_open(0.02):
            await client.says(b"x")
        assert (await client.answer())[0] == 408


@pytest.mark.usefixtures("hasty")
async def test_what_is_answered_before_its_body_came_is_closed_when_the_rest_never_comes(server: HttpServer) -> None:
    async with deadline(10), caller(server) as client:
        await client.says(b"POST /good HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nabc")
        assert await client.answer() == (200, b"/good")
        assert await client.is_closed()


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few connections."""
    monkeypatch.setattr(http_bounds, "MAX_CONNECTIONS", 40)
    monkeypatch.setattr(http_bounds, "MAX_FOR_ONE", 20)


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("start", [b"", b"GET / HT", GOOD], ids=["silent", "half a head", "idle"])
async def test_who_holds_all_connections_keeps_nobody_out(start: bytes) -> None:
    with capture_logs() as logs:
        async with deadline(20), HttpServer(app, "127.0.0.1", 0, grace=0.1) as server, AsyncExitStack() as held:
            for _ in range(60):
                await (await held.enter_async_context(caller(server))).says(start)
            await eventually(lambda: len(server._server.server_state.connections) <= 20)
            async with http_client(server.url) as http:
                assert (await http.get("/good")).text == "/good"
    crowded = [line for line in logs if line["event"] == "http.crowded"]
    assert len(crowded) == 1  # one line, however many
    assert crowded[0]["address"] == "127.0.0.1"


@pytest.mark.usefixtures("narrow")
async def test_requests_under_way_are_not_given_up_for_new_ones() -> None:
    async with deadline(20), HttpServer(app, "127.0.0.1", 0, grace=0.1) as server, AsyncExitStack() as held:
        for _ in range(20):
            holder = await held.enter_async_context(caller(server))
            await holder.says(b"GET /hang HTTP/1.1\r\nhost: x\r\n\r\n")
        await eventually(lambda: len(server._server.server_state.tasks) == 20)
        async with caller(server) as late:
            status, body = await late.answer()
            assert status == 503
            assert b"too many connections" in body
        assert len(server._server.server_state.tasks) == 20


def test_an_ipv6_caller_is_its_network() -> None:
    assert http_bounds._network("2001:db8::1") == http_bounds._network("2001:db8::ffff:1")
    assert http_bounds._network("2001:db8::1") != http_bounds._network("2001:db8:0:1::1")
    assert http_bounds._network("::ffff:10.1.2.3") == http_bounds._network("10.1.2.3")
    assert http_bounds._network("fe80::1%eth0") == http_bounds._network("fe80::2%eth0")


@pytest.mark.parametrize(
    "head",
    [
        b"GET /good HTTP/1.1\r\n\r\n",
        b"GET /good HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n",
        b"GET /good HTTP/1.1\r\nhost: 127.0.0.1:x\r\n\r\n",
        b"GET /good HTTP/1.1\r\nhost: 127.0.0.1:99999\r\n\r\n",
        b"GET /good HTTP/1.1\r\nhost:\r\n\r\n",
        b"GET /good HTTP/1.1\r\nhost: a b\r\n\r\n",
        b"GET /good HTTP/1.1\r\nhost: a/b\r\n\r\n",
        b"GET /good HTTP/1.1\r\nhost: user@a\r\n\r\n",
        b"GET /good HTTP/1.1\r\nhost: [::1\r\n\r\n",
        b"GET /good HTTP/1.1\r\nhost: a:1:2\r\n\r\n",
        b"GET /good HTTP/1.1\r\nhost: \xe9\r\n\r\n",
        b"NONSENSE /good HTTP/1.1\r\nhost: x\r\n\r\n",
    ],
)
async def test_a_request_without_one_host_is_malformed(server: HttpServer, head: bytes) -> None:
    with capture_logs() as logs:
        async with deadline(10), caller(server) as client:
            await client.says(head)
            assert (await client.answer())[0] == 400
            assert await client.is_closed()
    assert not [line for line in logs if line["log_level"] == "error"]


@pytest.mark.parametrize("host", [b"x", b"127.0.0.1:80", b"[::1]:80", b"a_b.example:", b"localhost"])
async def test_a_host_is_taken(server: HttpServer, host: bytes) -> None:
    async with deadline(10), caller(server) as client:
        await client.says(b"GET /good HTTP/1.1\r\nhost: %b\r\n\r\n" % host)
        assert await client.answer() == (200, b"/good")
        await client.says(b"GET /good HTTP/1.0\r\n\r\n")  # which has no such header
        assert await client.answer() == (200, b"/good")


async def test_few_files_left_are_logged(server: HttpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    protocol: Any = server._server.config.http
    monkeypatch.setattr(protocol.crowd, "_files", 70)
    with capture_logs() as logs:
        async with deadline(10), http_client(server.url) as http:
            assert (await http.get("/good")).text == "/good"
    (line,) = [line for line in logs if line["event"] == "http.few_files_left"]
    assert line["limit"] == 70
    assert "LimitNOFILE" in line["hint"]
