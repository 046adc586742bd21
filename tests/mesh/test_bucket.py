"""A bucket is read as a whole, then change by change."""

from __future__ import annotations

from typing import Any

import pytest
from nats.js import JetStreamContext
from nats.js.api import ConsumerInfo, KeyValueConfig
from nats.js.errors import NotFoundError
from nats.js.kv import KeyValue

from muster.mesh import names
from muster.mesh.bucket import REMOVED, Reader, reading
from muster.mesh.connection import connect
from muster.mesh.errors import UnavailableError
from tests.kit.servers import Nats
from tests.kit.waiting import deadline

BUCKET = "B"


async def made(js: JetStreamContext, **values: bytes) -> KeyValue:
    """The bucket, with these in it."""
    bucket = await js.create_key_value(KeyValueConfig(bucket=BUCKET))
    for name, value in values.items():
        await bucket.put(name, value)
    return bucket


async def all_of(reader: Reader) -> dict[str, bytes | None]:
    """What the bucket held."""
    found: dict[str, bytes | None] = {}
    async with deadline(10, "the whole bucket"):
        while not reader.is_whole:
            found.update({entry.name: entry.value for entry in await reader.batch()})
    return found


async def test_what_a_bucket_holds_comes_first_then_each_change(fresh_nats: Nats) -> None:
    async with connect(fresh_nats.url, name="test") as client:
        bucket = await made(client.jetstream(), one=b"1", two=b"2")
        await bucket.put(names.key("a.b"), b"3")
        await bucket.put("one", b"4")
        await client.jetstream().publish(names.entry(BUCKET, "two"), headers=dict(REMOVED))
        async with reading(client, BUCKET) as reader:
            assert not reader.is_whole
            assert await all_of(reader) == {"one": b"4", "two": None, "a.b": b"3"}
            await bucket.delete("one")
            (entry,) = await reader.batch()
            assert (entry.name, entry.value) == ("one", None)


async def test_an_empty_bucket_is_read_at_once(fresh_nats: Nats) -> None:
    async with connect(fresh_nats.url, name="test") as client:
        await made(client.jetstream())
        async with reading(client, BUCKET) as reader:
            assert reader.is_whole


async def test_a_bucket_that_is_emptied_while_it_is_read_has_an_end(
    fresh_nats: Nats, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = JetStreamContext.add_consumer

    async def then_purge(js: JetStreamContext, stream: str, *args: Any, **fields: Any) -> ConsumerInfo:
        """The server has said that there is something; now it goes without a word."""
        info = await add(js, stream, *args, **fields)
        await js.purge_stream(stream)
        return info

    async with connect(fresh_nats.url, name="test") as client:
        await made(client.jetstream(), one=b"1")
        monkeypatch.setattr(JetStreamContext, "add_consumer", then_purge)
        async with reading(client, BUCKET) as reader:
            assert await all_of(reader) == {}


@pytest.mark.parametrize("left", [0, 1])
async def test_a_reader_that_missed_something_says_so(
    fresh_nats: Nats, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    add = JetStreamContext.add_consumer

    async def then_lose(js: JetStreamContext, stream: str, *args: Any, **fields: Any) -> ConsumerInfo:
        """What is sent first comes to somebody else."""
        info = await add(js, stream, *args, **fields)
        other = await client.subscribe("somebody.else")
        await client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{info.name}", b"1", reply="somebody.else")
        await other.next_msg()
        return info

    async with connect(fresh_nats.url, name="test") as client:
        await made(client.jetstream(), lost=b"1", **{f"left{number}": b"2" for number in range(left)})
        monkeypatch.setattr(JetStreamContext, "add_consumer", then_lose)
        async with reading(client, BUCKET) as reader:
            with pytest.raises(UnavailableError, match="1 of"):
                await all_of(reader)


async def test_a_reader_whose_place_is_gone_says_so(fresh_nats: Nats) -> None:
    async with connect(fresh_nats.url, name="test") as client:
        await made(client.jetstream(), one=b"1")
        async with reading(client, BUCKET) as reader:
            await all_of(reader)
            await client.jetstream().delete_key_value(BUCKET)
            async with deadline(10, "word of it"):
                with pytest.raises(UnavailableError, match="our consumer"):
                    await reader.batch()


async def test_a_place_is_given_back(fresh_nats: Nats) -> None:
    async with connect(fresh_nats.url, name="test") as client:
        js = client.jetstream()
        await made(js, one=b"1")
        async with reading(client, BUCKET):
            (place,) = await js.consumers_info(names.bucket_stream(BUCKET))
        with pytest.raises(NotFoundError):
            await js.consumer_info(names.bucket_stream(BUCKET), place.name)
