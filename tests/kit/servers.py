"""Fixtures: one nats-server for each test worker, and an account on it for each test.

A test that stops or signals its server asks for `own_nats`; one that fills or configures a server starts it itself.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import pytest
import pytest_asyncio
from nats.aio.client import Client

from muster.mesh.connection import connect
from muster.mesh.embedded_nats import EmbeddedNats, NatsSettings

ACCOUNTS: Final = 1000
"""How many a server has, more than a run has tests that want one; all of them together take it under a second."""

SHARED: Final = "shared"
"""The account of clients without credentials."""


class Nats(Protocol):
    """An account, or a server of its own: what a test connects to."""

    @property
    def url(self) -> str:
        """Where, with the credentials in it."""


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """An account of a server: whoever connects with its URL sees only the account's streams and subjects."""

    url: str


class AccountServer(EmbeddedNats):
    """A nats-server with many accounts, each of which is used once."""

    def __init__(self, settings: NatsSettings) -> None:
        super().__init__(settings)
        self._unused = iter(range(ACCOUNTS))

    @asynccontextmanager
    async def account(self) -> AsyncIterator[Account]:
        """An empty account; its streams are deleted afterwards."""
        number = next(self._unused, None)
        assert number is not None, "every account is used up: raise ACCOUNTS"
        user = f"t{number}"
        account = Account(url=self.url.replace("//", f"//{user}:{user}@"))
        yield account
        async with connect(account.url, name="cleanup") as client:
            js = client.jetstream(timeout=10)
            for stream in await js.streams_info():
                assert stream.config.name is not None
                await js.delete_stream(stream.config.name)

    def _config(self) -> str:
        config: dict[str, Any] = json.loads(super()._config())
        users = [f"t{number}" for number in range(ACCOUNTS)] + [SHARED]
        config["accounts"] = {
            user.upper(): {"jetstream": "enabled", "users": [{"user": user, "password": user}]} for user in users
        }
        config["no_auth_user"] = SHARED
        return json.dumps(config)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def nats_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AccountServer]:
    """The server of this worker; a test that connects without an account names its own streams and subjects."""
    settings = NatsSettings(folder=tmp_path_factory.mktemp("nats"), durability="fast")
    async with AccountServer(settings) as server:
        yield server


@pytest_asyncio.fixture
async def fresh_nats(
    request: pytest.FixtureRequest, nats_server: AccountServer, tmp_path: Path
) -> AsyncIterator[Account | EmbeddedNats]:
    """An empty account of the test's own; a server of its own for a test that also asks for `own_nats`."""
    if "own_nats" in request.fixturenames:
        async with EmbeddedNats(NatsSettings(folder=tmp_path / "nats", durability="fast")) as server:
            yield server
    else:
        async with nats_server.account() as account:
            yield account


@pytest.fixture
def own_nats(fresh_nats: Account | EmbeddedNats) -> EmbeddedNats:
    """The server that all of the test's fixtures use, which the test may stop or signal."""
    assert isinstance(fresh_nats, EmbeddedNats)
    return fresh_nats


@pytest_asyncio.fixture
async def nats_client(nats_server: EmbeddedNats) -> AsyncIterator[Client]:
    """A connection to the worker's server."""
    async with connect(nats_server.url, name="test") as client:
        yield client
