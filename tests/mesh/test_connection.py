"""Connecting to NATS: what is told when it does not work."""

from __future__ import annotations

from pathlib import Path

import pytest

from muster.mesh.connection import connect
from muster.mesh.embedded_nats import EmbeddedNats, NatsSettings
from muster.mesh.errors import UnauthorizedError, UnreachableError
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
