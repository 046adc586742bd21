"""The consumers of a mesh, and the lease that they grant."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest_asyncio
from nats.aio.client import Client

from muster.broker import consumers, streams
from muster.mesh import names
from muster.mesh.connection import connect
from muster.mesh.jetstream_api import ask
from tests.kit.servers import Nats

TEN, SIXTY = timedelta(seconds=10), timedelta(seconds=60)
NAME, SUBJECT = names.pool_consumer("webs"), names.work_pool("webs")


@pytest_asyncio.fixture
async def client(fresh_nats: Nats) -> AsyncIterator[Client]:
    """A connection to a server with a mesh's streams."""
    async with connect(fresh_nats.url, name="test") as client:
        await streams.ensure(client, streams.StreamSettings())
        yield client


async def settings_of(client: Client, name: str = NAME) -> dict[str, object]:
    config: dict[str, object] = (await ask(client, f"CONSUMER.INFO.{names.WORK_STREAM}.{name}"))["config"]
    return config


async def granted(client: Client) -> float:
    return float(str((await settings_of(client))["ack_wait"])) / 1e9


async def test_a_leader_that_was_replaced_shortens_no_lease(client: Client) -> None:
    await consumers.keep(client, names.WORK_STREAM, NAME, SUBJECT, SIXTY)
    await consumers.keep(client, names.WORK_STREAM, NAME, SUBJECT, TEN)
    assert await granted(client) == 60


async def test_an_older_version_takes_no_setting_of_a_consumer_away(client: Client) -> None:
    await consumers.create(client, names.WORK_STREAM, NAME, SUBJECT, TEN)
    config = {**await settings_of(client), "description": "of a later version"}
    body = {"stream_name": names.WORK_STREAM, "config": config, "action": "update"}
    await ask(client, f"CONSUMER.DURABLE.CREATE.{names.WORK_STREAM}.{NAME}", body)
    assert not await consumers.create(client, names.WORK_STREAM, NAME, SUBJECT, SIXTY)
    await consumers.keep(client, names.WORK_STREAM, NAME, SUBJECT, SIXTY)
    assert (await settings_of(client))["description"] == "of a later version"
    assert await granted(client) == 60


async def test_every_consumer_grants_a_new_lease_and_the_inbox_says_which(client: Client) -> None:
    assert await consumers.granted(client) is None
    assert await consumers.ensure_inbox(client, SIXTY) == SIXTY
    assert await consumers.ensure_inbox(client, TEN) == SIXTY
    for number in range(300):  # the server lists 256 on a page
        name, subject = names.pool_consumer(f"p{number}"), names.work_pool(f"p{number}")
        await consumers.create(client, names.WORK_STREAM, name, subject, SIXTY)
    await consumers.grant(client, TEN)
    assert await consumers.granted(client) == TEN
    assert (await settings_of(client, names.pool_consumer("p299")))["ack_wait"] == 10_000_000_000
    await consumers.drop(client, names.WORK_STREAM, names.pool_consumer("p299"))
    await consumers.drop(client, names.WORK_STREAM, names.pool_consumer("p299"))
    assert len(await consumers.all_names(client, names.WORK_STREAM)) == 299
