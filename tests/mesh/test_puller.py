"""A puller hands out every message, and never holds more of them, or more bytes, than it asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig, StorageType, StreamConfig

from muster.mesh.budget import Budget
from muster.mesh.jetstream import Puller, sequence
from tests.kit.waiting import deadline, eventually

STREAM = "SIZES"


@pytest_asyncio.fixture
async def consumer(nats_client: Client) -> AsyncIterator[str]:
    """A consumer of an empty stream."""
    js = nats_client.jetstream()
    await js.add_stream(StreamConfig(STREAM, subjects=["sizes"], storage=StorageType.MEMORY))
    info = await js.add_consumer(STREAM, ConsumerConfig(ack_policy=AckPolicy.NONE, mem_storage=True))
    yield str(info.name)
    await js.delete_stream(STREAM)


async def publish(client: Client, sizes: list[int], headers: dict[str, str] | None = None) -> None:
    for size in sizes:
        await client.jetstream().publish("sizes", b"x" * size, headers=headers)


async def read(puller: Puller, count: int) -> list[int]:
    found: list[int] = []
    async with deadline(30, f"{count} messages"):
        while len(found) < count:
            found += [sequence(message) for message in await puller.batch()]
    return found


async def test_no_more_bytes_come_than_were_asked_for(nats_client: Client, consumer: str) -> None:
    await publish(nats_client, [1000] * 100)
    puller = Puller(nats_client, STREAM, consumer, limit=1000, size=1)
    assert puller._size >= 2 * nats_client.max_payload, "less than a message is never answered"
    async with small(nats_client, consumer, 10_000) as puller:
        await eventually(lambda: puller.unread and not puller.asked, what="the end of a request")
        assert sum(len(message.data) for message in puller._buffer) <= 10_000
        assert await read(puller, 1) != []


def small(client: Client, consumer: str, size: int) -> Puller:
    """A puller with fewer bytes than the server's largest message."""
    puller = Puller(client, STREAM, consumer, limit=1000, size=size)
    puller._size = size
    return puller


@pytest.mark.parametrize("size", range(3_000, 3_040))
@pytest.mark.parametrize("headers", [None, {"Muster-Kind": "a", "B": "c d"}], ids=["bare", "headers"])
async def test_requests_that_end_to_the_byte_are_followed_by_the_next_one(
    nats_client: Client, consumer: str, size: int, headers: dict[str, str] | None
) -> None:
    """The server ends a request without a word when its bytes are used up exactly."""
    await publish(nats_client, [200] * 30, headers)
    async with small(nats_client, consumer, size) as puller:
        assert await read(puller, 30) == list(range(1, 31))


async def test_messages_of_all_sizes_come_in_order(nats_client: Client, consumer: str) -> None:
    sizes = [1, 900, 30_000, 5, 40_000, 40_000, 40_000, 7] * 5
    await publish(nats_client, sizes)
    async with small(nats_client, consumer, 50_000) as puller:
        assert await read(puller, len(sizes)) == list(range(1, len(sizes) + 1))


async def test_a_budget_is_never_exceeded_and_serves_in_order() -> None:
    budget, started = Budget(10), list[int]()

    async def use(size: int) -> None:
        await budget.take(size)
        started.append(size)

    for size in (4, 6):
        await use(size)
    tasks = [asyncio.create_task(use(size)) for size in (8, 1, 99, 2)]
    await asyncio.sleep(0)
    assert started == [4, 6]
    budget.give(6)
    await asyncio.sleep(0)
    assert started == [4, 6], "the first in line is not overtaken by a smaller one"
    budget.give(4)
    await asyncio.sleep(0)
    assert started == [4, 6, 8, 1]
    tasks[2].cancel()
    await asyncio.wait({tasks[2]})
    budget.give(8)
    await asyncio.sleep(0)
    assert started == [4, 6, 8, 1, 2]


async def test_what_is_larger_than_the_budget_goes_alone() -> None:
    budget = Budget(10)
    await budget.take(99)
    waiting = asyncio.create_task(budget.take(1))
    await asyncio.sleep(0)
    assert not waiting.done()
    budget.give(99)
    await waiting
