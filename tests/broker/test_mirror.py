"""Two leaders for a moment: the one that knows more of the log wins, in whichever order they write."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import pytest
import pytest_asyncio
from nats.aio.client import Client

from muster.broker.mirror import Mirror
from muster.mesh import names
from muster.mesh.bucket import reading
from muster.mesh.connection import connect
from muster.mesh.jetstream import LostRaceError, PubAck, Publisher
from tests.kit.servers import Account

BUCKET = names.ASSIGNMENT_BUCKET


@pytest_asyncio.fixture
async def client(fresh_nats: Account) -> AsyncIterator[Client]:
    async with connect(fresh_nats.url, name="test") as client:
        await client.jetstream().create_key_value(bucket=BUCKET)
        yield client


@pytest_asyncio.fixture
async def publisher(client: Client) -> AsyncIterator[Publisher]:
    async with Publisher(client) as publisher:
        yield publisher


async def values(client: Client) -> dict[str, bytes | None]:
    found: dict[str, bytes | None] = {}
    async with reading(client, BUCKET) as reader:
        while not reader.is_whole:
            found |= {entry.name: entry.value for entry in await reader.batch()}
    return found


async def test_a_leader_that_is_behind_does_not_write_an_older_value(client: Client, publisher: Publisher) -> None:
    mirror = Mirror(client, publisher, BUCKET)
    await mirror.write("web.01", b"new", as_of=105)
    await mirror.write("web.01", b"old", as_of=100)
    assert await values(client) == {"web.01": b"new"}
    await mirror.write("web.01", b"newer", as_of=106)
    assert await values(client) == {"web.01": b"newer"}


async def test_a_leader_that_is_behind_does_not_bring_back_what_was_removed(
    client: Client, publisher: Publisher
) -> None:
    mirror = Mirror(client, publisher, BUCKET)
    await mirror.write("web01", b"old", as_of=99)
    await mirror.write("web01", None, as_of=105)
    await mirror.write("web01", b"old", as_of=100)
    assert await values(client) == {"web01": None}


class Interrupted(Publisher):
    """A publisher before whose message another broker writes."""

    async def publish(
        self, subject: str, data: bytes, headers: Mapping[str, str] | None = None, *, within: float = 5.0
    ) -> PubAck:
        await self._client.jetstream().publish(subject, b"of the other one")
        return await super().publish(subject, data, headers, within=within)


async def test_two_leaders_that_write_at_once_do_not_overwrite_each_other(client: Client) -> None:
    async with Interrupted(client) as publisher:
        with pytest.raises(LostRaceError):
            await Mirror(client, publisher, BUCKET).write("web01", b"ours", as_of=1)
    assert await values(client) == {"web01": b"of the other one"}
