"""Connecting to NATS: what is told when it does not work; and what is written when."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from muster.mesh.connection import connect
from muster.mesh.embedded_nats import EmbeddedNats, NatsSettings
from muster.mesh.errors import UnauthorizedError, UnreachableError
from muster.mesh.wire import flush, post
from tests.kit.ports import free_port
from tests.kit.waiting import deadline


@pytest.mark.parametrize("token", ["wrong", None])
async def test_a_wrong_token_is_told_at_once_and_not_taken_for_silence(tmp_path: Path, token: str | None) -> None:
    settings = NatsSettings(folder=tmp_path, durability="fast", token="right")
    async with deadline(5), EmbeddedNats(settings) as server:
        with pytest.raises(UnauthorizedError, match="MUSTER_NATS_TOKEN"):
            async with connect(server.url, name="test", token=token, patience=30):
                pytest.fail("connected")


async def test_the_right_token_connects(tmp_path: Path) -> None:
    settings = NatsSettings(folder=tmp_path, durability="fast", token="right")
    async with (
        deadline(10),
        EmbeddedNats(settings) as server,
        connect(server.url, name="test", token="right") as client,
    ):
        assert client.is_connected


async def test_a_silent_address_is_told_after_the_patience_given() -> None:
    async with deadline(5):
        with pytest.raises(UnreachableError, match="no NATS server answers"):
            async with connect(f"nats://127.0.0.1:{free_port()}", name="test", patience=0.5):
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
