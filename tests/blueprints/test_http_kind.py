"""HTTP tasks against a real server: answers, limits, secrets, and every way they fail."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from muster.blueprints.definition import Task
from muster.blueprints.kinds.http import Http
from muster.blueprints.kinds.http_fields import fits, shown_url
from muster.blueprints.kinds.http_reply import MAX_BODY
from muster.blueprints.task import Done, Failed, Outcome
from tests.blueprints.context import FakeContext, run_task

PACKED = {
    "/gzip": ("gzip", gzip.compress(b"small")),
    "/two-parts": ("x-gzip", gzip.compress(b"first") + b"the rest is no part of it"),
    "/bomb": ("gzip", gzip.compress(bytes(50_000_000))),
    "/layers": ("gzip, gzip", gzip.compress(gzip.compress(bytes(50_000_000)))),
    "/brotli": ("br", b"\x0b\x02\x80small\x03"),
    "/broken": ("gzip", b"no gzip at all"),
}
"""Path to the answer's coding and its body."""


class Server:
    """Answers by path, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str], bytes]] = []
        self.port = 0
        self.writers: list[asyncio.StreamWriter] = []

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {key.lower(): value for key, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.asked.append((head[0], headers, body))
        path = head[0].split(" ")[1].partition("?")[0]
        if path == "/hang":
            await reader.read()
        elif path in PACKED:
            coding, body = PACKED[path]
            self._reply(writer, "200 OK", body, "text/plain", f"content-encoding: {coding}\r\n")
        elif path == "/late":
            with suppress(TimeoutError):
                await asyncio.wait_for(reader.read(), 5.2)  # longer than httpx waits of its own accord
            self._reply(writer, "200 OK", b"late", "text/plain")
        elif path == "/cut":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort")
        elif path == "/big":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n" + b"[" + b"1," * 1_500_000)
        elif path == "/echo":
            self._reply(writer, "200 OK", msgspec.json.encode(headers), "application/json")
        elif path in {"/moved", "/round"}:
            to = self.url(path if path == "/round" else "/echo")
            self._reply(writer, "302 Found", b"", "text/plain", f"location: {to}\r\n")
        elif path == "/text":
            self._reply(writer, "201 Created", "grüezi".encode("latin-1"), "text/plain; charset=latin-1")
        else:
            self._reply(writer, "404 Not Found", b"nothing  here\n", "text/plain")
        writer.close()

    def _reply(self, writer: asyncio.StreamWriter, status: str, body: bytes, kind: str, more: str = "") -> None:
        head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n{more}\r\n"
        writer.write(head.encode() + body)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    found = Server()
    listening = await asyncio.start_server(found.answer, "127.0.0.1", 0)
    found.port = listening.sockets[0].getsockname()[1]
    async with listening:
        yield found
    for writer in found.writers:
        writer.close()


async def ask(tmp_path: Path, url: str, **fields: Any) -> tuple[Outcome, FakeContext]:
    return await run_task(Task(name="h", uses="http", with_={"url": url, **fields}), tmp_path)


async def test_json_goes_out_and_comes_back(server: Server, tmp_path: Path) -> None:
    outcome, context = await ask(
        tmp_path, server.url("/echo"), method="post", json={"a": 1}, headers={"X-N": 5}, query={"q": "a b"}
    )
    assert isinstance(outcome, Done)
    assert outcome.outputs["status"] == 200
    assert outcome.outputs["json"]["x-n"] == "5"
    assert outcome.outputs["headers"]["content-type"] == "application/json"
    ((request, _, body),) = server.asked
    assert request in {"POST /echo?q=a%20b HTTP/1.1", "POST /echo?q=a+b HTTP/1.1"}
    assert msgspec.json.decode(body) == {"a": 1}
    assert context.output.decode().startswith(f"POST {server.url('/echo')} → 200 OK, ")


async def test_a_form_and_a_text_are_bodies_too(server: Server, tmp_path: Path) -> None:
    await ask(tmp_path, server.url("/echo"), method="POST", form={"a": 1, "b": "x y"})
    await ask(tmp_path, server.url("/echo"), method="PUT", body="plain")
    assert [body for _, _, body in server.asked] == [b"a=1&b=x+y", b"plain"]


async def test_text_is_decoded_as_the_server_says(server: Server, tmp_path: Path) -> None:
    outcome, _ = await ask(tmp_path, server.url("/text"), expect=[200, "201"])
    assert isinstance(outcome, Done)
    assert outcome.outputs["text"] == "grüezi"


async def test_another_status_than_expected_fails_with_the_answers_start(server: Server, tmp_path: Path) -> None:
    outcome, _ = await ask(tmp_path, server.url("/nope"))
    assert isinstance(outcome, Failed)
    assert not outcome.final
    assert outcome.error == f"GET {server.url('/nope')} answered 404 Not Found, not 2xx: nothing here"
    assert outcome.outputs["status"] == 404
    assert isinstance((await ask(tmp_path, server.url("/nope"), expect="404"))[0], Done)


async def test_redirects_are_followed_only_if_asked_for(server: Server, tmp_path: Path) -> None:
    outcome, _ = await ask(tmp_path, server.url("/moved"))
    assert isinstance(outcome, Failed)
    outcome, _ = await ask(tmp_path, server.url("/moved"), redirects=True)
    assert isinstance(outcome, Done)


async def test_a_redirect_without_end_is_given_up(server: Server, tmp_path: Path) -> None:
    outcome, _ = await ask(tmp_path, server.url("/round"), redirects=True)
    assert isinstance(outcome, Failed)
    assert outcome.final
    assert "redirects" in outcome.error


@pytest.mark.parametrize(("host", "follows"), [("127.0.0.1", True), ("localhost", False)])
async def test_a_secret_follows_a_redirect_on_its_own_server_only(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, follows: bool
) -> None:
    monkeypatch.setenv("FORGE_TOKEN", "very-secret")
    headers = {"PRIVATE-TOKEN": {"env": "FORGE_TOKEN"}, "X-Plain": "y"}
    url = server.url("/moved").replace("127.0.0.1", host)
    await ask(tmp_path, url, redirects=True, headers=headers)
    (_, first, _), (_, second, _) = server.asked
    assert first["private-token"] == "very-secret"
    assert ("private-token" in second) is follows
    assert second["x-plain"] == "y"


async def test_of_a_huge_answer_only_the_start_is_kept(server: Server, tmp_path: Path) -> None:
    outcome, _ = await ask(tmp_path, server.url("/big"))
    assert isinstance(outcome, Done)
    assert outcome.outputs["truncated"] is True
    assert len(outcome.outputs["text"]) == MAX_BODY


@pytest.mark.parametrize(("path", "text"), [("/gzip", "small"), ("/two-parts", "first")])
async def test_a_packed_answer_is_unpacked(server: Server, tmp_path: Path, path: str, text: str) -> None:
    outcome, _ = await ask(tmp_path, server.url(path))
    assert isinstance(outcome, Done)
    assert outcome.outputs["text"] == text
    assert server.asked[0][1]["accept-encoding"] == "gzip"


async def test_of_an_answer_that_unpacks_to_gigabytes_only_the_start_is_unpacked(
    server: Server, tmp_path: Path
) -> None:
    tracemalloc.start()
    outcome, _ = await ask(tmp_path, server.url("/bomb"))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(outcome, Done)
    assert outcome.outputs["truncated"] is True
    assert most < 15_000_000


@pytest.mark.parametrize(("path", "reported"), [("/layers", "gzip, gzip"), ("/brotli", "br"), ("/broken", "not gzip")])
async def test_an_answer_in_a_coding_that_was_not_asked_for_fails(
    server: Server, tmp_path: Path, path: str, reported: str
) -> None:
    outcome, _ = await ask(tmp_path, server.url(path))
    assert isinstance(outcome, Failed)
    assert reported in outcome.error


async def test_a_secret_is_sent_and_never_shown(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHAT_TOKEN", "s3cr3t-value\n")
    headers = {"Authorization": {"env": "CHAT_TOKEN", "prefix": "Bearer "}}
    outcome, context = await ask(tmp_path, server.url("/echo?token=hidden"), headers=headers)
    assert isinstance(outcome, Done)
    assert server.asked[0][1]["authorization"] == "Bearer s3cr3t-value"
    assert outcome.outputs["json"]["authorization"] == "Bearer ***"
    assert b"hidden" not in context.output
    assert "s3cr3t" not in f"{outcome}{context.output!r}"


@pytest.mark.parametrize("value", [None, "two\nlines", "nul\0"])
async def test_a_secret_that_is_not_there_or_no_header_fails_without_showing_it(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    if value is not None and "\0" not in value:
        monkeypatch.setenv("CHAT_TOKEN", value)
    outcome, _ = await ask(tmp_path, server.url("/echo"), headers={"X": {"env": "CHAT_TOKEN"}})
    assert isinstance(outcome, Failed)
    assert outcome.final
    assert "CHAT_TOKEN" in outcome.error
    assert "lines" not in outcome.error
    assert server.asked == []


@pytest.mark.parametrize("name", ["MUSTER_TOKEN", "MUSTER_NATS_TOKEN", "MUSTER_SERVER"])
async def test_what_opens_the_mesh_is_never_sent(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "key-of-the-mesh")
    headers = {"X": {"env": name}}
    outcome, _ = await ask(tmp_path, server.url("/echo"), headers=headers)
    assert isinstance(outcome, Failed)
    assert outcome.final
    assert server.asked == []
    task = Task(name="h", uses="http", with_={"url": server.url("/echo"), "headers": headers})
    assert [problem.path for problem in Http().check(task, "t")] == ["t.with.headers.X.env"]


async def test_a_server_that_hangs_is_given_up(server: Server, tmp_path: Path) -> None:
    outcome, _ = await ask(tmp_path, server.url("/hang"), timeout="100ms")
    assert isinstance(outcome, Failed)
    assert not outcome.final
    assert outcome.error.endswith("no answer within 100ms")


async def test_an_answer_may_take_as_long_as_timeout_says(server: Server, tmp_path: Path) -> None:
    outcome, _ = await ask(tmp_path, server.url("/late"), timeout="30s")
    assert isinstance(outcome, Done), outcome


async def test_a_connection_that_fails_may_be_tried_again(server: Server, tmp_path: Path) -> None:
    for url in ("http://127.0.0.1:1/", "https://" + server.url("/echo").removeprefix("http://"), server.url("/cut")):
        outcome, _ = await ask(tmp_path, url, timeout="5s")
        assert isinstance(outcome, Failed)
        assert not outcome.final, outcome


@pytest.mark.parametrize(
    "fields",
    [{"url": "ftp://x/"}, {"url": "http://"}, {"url": "http://x", "timeout": "soon"},
     {"url": 5}, {"url": "http://x", "headers": {"a": "b\r\nc: d"}}, {"url": "http://x", "headers": {"ü": "b"}}],
)  # fmt: skip
async def test_a_request_that_cannot_be_is_not_tried_again(tmp_path: Path, fields: dict[str, Any]) -> None:
    outcome, _ = await run_task(Task(name="h", uses="http", with_=fields), tmp_path)
    assert isinstance(outcome, Failed)
    assert outcome.final, outcome


def test_a_url_is_shown_without_what_could_be_secret() -> None:
    assert shown_url("https://user:pw@host:8443/a/b?token=x#y") == "https://host:8443/a/b"
    assert "x" not in shown_url("http://[bad?token=x")
    assert fits(204, "2xx")
    assert fits(200, 200)
    assert not fits(404, "2xx")
