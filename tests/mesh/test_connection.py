"""Connecting to NATS: what is reported when it does not work; and what is written when."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from nats.aio.client import Client

from muster.mesh.connection import connect
from muster.mesh.embedded_nats import EmbeddedNats, NatsSettings
from muster.mesh.errors import MusterError, UnauthorizedError, UnreachableError
from muster.mesh.tokens import Token
from muster.mesh.wire import TURNS, flush, post
from tests.kit.ports import free_port
from tests.kit.waiting import deadline


@pytest.mark.parametrize("token", [Token("wrong", "elsewhere"), None])
async def test_a_wrong_token_is_reported_at_once_and_not_taken_for_silence(tmp_path: Path, token: Token | None) -> None:
    settings = NatsSettings(folder=tmp_path, durability="fast", token="right")
    async with deadline(5), EmbeddedNats(settings) as server:
        with pytest.raises(UnauthorizedError, match="MUSTER_NATS_TOKEN"):
            async with connect(server.url, name="test", token=token, within=30):
                pytest.fail("connected")


async def test_the_right_token_connects(tmp_path: Path) -> None:
    settings = NatsSettings(folder=tmp_path, durability="fast", token="right")
    async with (
        deadline(10),
        EmbeddedNats(settings) as server,
        connect(server.url, name="test", token=Token("right", "here")) as client,
    ):
        assert client.is_connected


async def test_a_silent_address_is_reported_after_the_timeout_given() -> None:
    async with deadline(5):
        with pytest.raises(UnreachableError, match="no NATS server answers"):
            async with connect(f"nats://127.0.0.1:{free_port()}", name="test", within=0.5):
                pytest.fail("connected")


async def test_what_is_flushed_is_on_its_way_before_the_loop_turns(nats_server: EmbeddedNats) -> None:
    address = urlsplit(nats_server.url)
    async with connect(nats_server.url, name="test") as client:
        with socket.create_connection((address.hostname or "", address.port or 0), timeout=5) as listener:
            listener.sendall(b'CONNECT {"verbose": false}\r\nSUB flushed 1\r\nPING\r\n')
            while b"PONG" not in listener.recv(65536):
                pass
            post(client, "flushed", b"one")
            post(client, "flushed", b"two")
            flush(client)
            heard = b""
            while heard.count(b"MSG") < 2:  # blocks the loop, so nobody else can have written it
                heard += listener.recv(65536)
        assert heard == b"MSG flushed 1 3\r\none\r\nMSG flushed 1 3\r\ntwo\r\n"
    flush(client)  # there is nothing to write, and nowhere


@pytest.fixture
def writes(nats_client: Client, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What the client has written since, one entry a write."""
    transport = nats_client._transport
    assert transport is not None
    really, found = transport.writelines, []

    def write(payload: list[bytes]) -> None:
        found.append(b"".join(payload))
        really(payload)

    monkeypatch.setattr(transport, "writelines", write)
    return found


async def test_a_lone_message_is_written_in_the_next_turn_of_the_loop(nats_client: Client, writes: list[bytes]) -> None:
    post(nats_client, "alone", b"")
    assert not writes
    await asyncio.sleep(0)
    assert writes == [b"PUB alone  0\r\n\r\n"]


async def test_what_the_next_turns_say_goes_in_the_same_write(nats_client: Client, writes: list[bytes]) -> None:
    for turn in range(3):
        post(nats_client, f"turn.{turn}", b"")
        post(nats_client, f"turn.{turn}", b"")
        await asyncio.sleep(0)
    assert not writes
    await asyncio.sleep(0)
    assert [write.count(b"PUB") for write in writes] == [6]


async def test_a_loop_that_never_rests_does_not_hold_messages_back(nats_client: Client, writes: list[bytes]) -> None:
    for _ in range(3 * (TURNS + 2)):
        post(nats_client, "busy", b"")
        post(nats_client, "busy", b"")
        await asyncio.sleep(0)
    assert len(writes) >= 3


async def test_what_was_posted_last_is_written_before_the_connection_is_closed(nats_server: EmbeddedNats) -> None:
    async with connect(nats_server.url, name="test") as listener:
        heard = await listener.subscribe("last")
        await listener.flush()
        async with connect(nats_server.url, name="test") as client:
            post(client, "last", b"word")
        assert (await heard.next_msg(timeout=5)).data == b"word"


async def test_what_a_connection_does_not_take_any_more_is_kept_for_the_next_one(
    nats_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(_: list[bytes]) -> None:
        raise RuntimeError("unable to perform operation; the handler is closed")

    heard = await nats_client.subscribe("kept")
    with monkeypatch.context() as patched:
        patched.setattr(nats_client._transport, "writelines", closed)
        post(nats_client, "kept", b"word")
        flush(nats_client)
    flush(nats_client)
    assert (await heard.next_msg(timeout=5)).data == b"word"


@pytest.mark.parametrize("noise", [b"NOISE\r\n", b"SUB a..b 77\r\n", b"PUB " + b"a" * 5000 + b" 0\r\n\r\n"])
async def test_a_connection_that_is_closed_for_good_is_reported_once(nats_server: EmbeddedNats, noise: bytes) -> None:
    closed: list[MusterError] = []
    seen = asyncio.Event()

    def on_closed(error: MusterError) -> None:
        closed.append(error)
        seen.set()

    async with deadline(10), connect(nats_server.url, name="test", on_closed=on_closed) as client:
        transport = client._transport
        assert transport is not None
        transport.write(noise)
        await seen.wait()
    assert len(closed) == 1
    assert "closed for good" in str(closed[0])
    assert nats_server.url in str(closed[0])


async def test_a_connection_that_we_close_is_not_reported(nats_server: EmbeddedNats) -> None:
    closed: list[MusterError] = []
    async with connect(nats_server.url, name="test", on_closed=closed.append):
        pass
    assert not closed
