"""Fixtures: a real nats-server for the session, or a fresh one for a test that breaks it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from nats.aio.client import Client

from muster.mesh.connection import connect
from muster.mesh.embedded_nats import EmbeddedNats, NatsSettings


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def nats_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedNats]:
    """One server for all tests of this process; a test that uses it names its own streams and subjects."""
    settings = NatsSettings(folder=tmp_path_factory.mktemp("nats"), durability="fast")
    async with EmbeddedNats(settings) as server:
        yield server


@pytest_asyncio.fixture
async def fresh_nats(tmp_path: Path) -> AsyncIterator[EmbeddedNats]:
    """A server of the test's own, empty: for Muster's own streams, and for tests that kill it."""
    async with EmbeddedNats(NatsSettings(folder=tmp_path / "nats", durability="fast")) as server:
        yield server


@pytest_asyncio.fixture
async def nats_client(nats_server: EmbeddedNats) -> AsyncIterator[Client]:
    """A connection to the session's server."""
    async with connect(nats_server.url, name="test") as client:
        yield client
