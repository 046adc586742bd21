"""Bytes from the server become the same messages that nats-py would make of them, however they arrive in pieces."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import ProtocolError
from nats.protocol.parser import Parser

from muster.mesh.connection import connect
from muster.mesh.embedded_nats import EmbeddedNats
from muster.mesh.errors import UnavailableError
from muster.mesh.wire import Connection, post, subscribe
from tests.kit.waiting import deadline

_HEADERS = (
    b"NATS/1.0\r\nA: b\r\nC: d:e\r\n\r\n",
    b"NATS/1.0 503\r\n\r\n",
    b"NATS/1.0 404 No Messages\r\n\r\n",
    b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 1\r\n\r\n",
)

_replies = some.sampled_from([b"", b"_INBOX.x "])
_bodies = some.lists(some.sampled_from([b"MSG ", b"\r\n", b"PING\r\n", b"7", b"\0"]), max_size=20).map(b"".join)


def _message(reply: bytes, body: bytes) -> bytes:
    return b"MSG a.b 7 %b%d\r\n%b\r\n" % (reply, len(body), body)


def _with_headers(headers: bytes, reply: bytes, body: bytes) -> bytes:
    return b"HMSG a.b 7 %b%d %d\r\n%b%b\r\n" % (reply, len(headers), len(headers + body), headers, body)


_parts = some.one_of(
    some.builds(_message, _replies, _bodies),
    some.builds(_with_headers, some.sampled_from(_HEADERS), _replies, _bodies),
    some.sampled_from([b"PING\r\n", b"PONG\r\n", b"+OK\r\n", b'INFO {"a": 1}\r\n', b"-ERR 'Oh No'\r\n"]),
)


class _Hears:
    """What a reader passes to its client."""

    def __init__(self, reads_headers: Client) -> None:
        self._subs: dict[int, Any] = {}
        self._process_headers = reads_headers._process_headers
        self.heard: list[object] = []

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        known = await self._process_headers(headers) if headers else None
        self.heard.append((sid, subject, reply, data, known))

    async def _process_ping(self) -> None:
        self.heard.append("PING")

    async def _process_pong(self) -> None:
        self.heard.append("PONG")

    async def _process_info(self, info: object) -> None:
        self.heard.append(info)

    async def _process_err(self, error: str) -> None:
        self.heard.append(error)


async def _heard(client: Client, pieces: list[bytes]) -> list[object]:
    hears = _Hears(client)
    parser: Parser = client._ps
    parser.nc = hears
    for piece in pieces:
        await parser.parse(piece)
    assert not parser.buf
    return hears.heard


@given(parts=some.lists(_parts, max_size=12), cuts=some.lists(some.integers(0, 600), max_size=8))
def test_pieces_make_the_messages_that_nats_py_makes(parts: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(parts)
    ends = [0, *sorted(cuts), len(stream)]
    pieces = [stream[start:end] for start, end in pairwise(ends)]

    async def both() -> None:
        assert await _heard(Connection(), pieces) == await _heard(Client(), pieces)

    asyncio.run(both())


@pytest.mark.parametrize("line", [b"MSG a.b x 1\r\n", b"HMSG a.b 7 1\r\n", b"MSG\r\n", b"\r\n", b"NOISE a\r\n"])
async def test_noise_is_no_message(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        await _heard(Connection(), [line])


@pytest.mark.parametrize("subject", [b"wire.caf\xe9", b"wire.\x0c7 wire.\xff"], ids=["subject", "subject and reply"])
async def test_a_subject_is_any_bytes(nats_server: EmbeddedNats, subject: bytes) -> None:
    """As in `nats pub`; nats-py would end its read loop, and our own messages with it."""
    heard: asyncio.Queue[Msg] = asyncio.Queue()
    async with deadline(), connect(nats_server.url, name="test") as client:
        await client.subscribe("wire.*", cb=heard.put)
        await subscribe(client, "wire.*", heard.put_nowait)
        await client._send_command(b"PUB %b 1\r\nx\r\n" % subject)
        await client.publish("wire.next", b"y")
        got = [await heard.get() for _ in range(4)]
    words = subject.decode(errors="backslashreplace").partition(" ")
    assert sorted((it.subject, it.reply) for it in got) == sorted([(words[0], words[2]), ("wire.next", "")] * 2)


async def test_what_ends_the_read_loop_is_a_lost_connection(
    nats_server: EmbeddedNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = asyncio.Event()

    async def failing(_: bytes) -> None:
        monkeypatch.undo()
        raise RuntimeError("a bug")

    async with deadline(), connect(nats_server.url, name="test", on_reconnect=again.set) as client:
        monkeypatch.setattr(client._ps, "parse", failing)
        await client._send_ping()
        await again.wait()
        await client.flush()


async def test_a_cancellation_that_comes_with_the_answer_counts(nats_client: Client) -> None:
    async def answer(message: Msg) -> None:
        await message.respond(b"")

    await nats_client.subscribe("wire.answers", cb=answer)
    asking = asyncio.create_task(nats_client.request("wire.answers", timeout=10))
    async with deadline():
        while not nats_client._resp_map:
            await asyncio.sleep(0)
        (answered,) = nats_client._resp_map.values()
        answered.add_done_callback(lambda _: asking.cancel())
        with pytest.raises(asyncio.CancelledError):
            await asking


@pytest.mark.parametrize(
    ("subject", "reply", "headers"),
    [
        ("", "", None),
        ("a b", "", None),
        ("a\r\nPUB b  0", "", None),
        ("a\n", "", None),
        ("a\tb", "", None),
        ("a\u2028b", "", None),
        ("a", "b c", None),
        ("a", "b\r\nPUB c  0\r\n", None),
        ("a" * 5000, "", None),
        ("é" * 2100, "", None),
        ("a", "", {"x": "1\r\ny: 2"}),
        ("a", "", {"x\r\ny": "1"}),
        ("a", "", {"x": "1\n"}),
        ("a", "", {"x": "é" * 5_000_000}),
    ],
)
async def test_what_the_server_would_close_the_connection_for_is_never_written(
    nats_client: Client, subject: str, reply: str, headers: dict[str, str] | None
) -> None:
    with pytest.raises(UnavailableError):
        post(nats_client, subject, b"", reply, headers)
    await nats_client.flush(timeout=5)
    assert nats_client.is_connected


_anything = some.text(max_size=30) | some.sampled_from(["a.b", "café", "a..b", ".", "*.>", "a" * 4094])


async def test_nothing_that_is_posted_loses_the_connection(nats_client: Client) -> None:
    """Any subject, reply and headers: refused here, or accepted by the server as one message."""

    @given(_anything, _anything, some.dictionaries(_anything, _anything, max_size=3), some.binary(max_size=20))
    def post_it(subject: str, reply: str, headers: dict[str, str], data: bytes) -> None:
        with suppress(UnavailableError):
            post(nats_client, subject, data, reply, headers)

    heard = await nats_client.subscribe("wire.after")
    async with deadline(20):
        post_it()
        post(nats_client, "wire.after", b"there")
        assert (await heard.next_msg(timeout=5)).data == b"there"
    assert nats_client.stats["reconnects"] == 0


async def test_header_values_are_measured_in_bytes(nats_client: Client) -> None:
    heard = await nats_client.subscribe("wire.measured")
    post(nats_client, "wire.measured", b"body", headers={"Who": "é\U0001f600"})
    message = await heard.next_msg(timeout=5)
    assert message.data == b"body"
    assert message.headers == {"Who": "é\U0001f600"}
