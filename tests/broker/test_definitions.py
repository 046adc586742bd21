"""What the leader finds wrong in the bucket of triggers' definitions."""

from __future__ import annotations

from typing import Any

import pytest
from nats.js import JetStreamContext
from nats.js.api import ConsumerInfo, KeyValueConfig

from muster.broker.definitions import Definitions
from muster.broker.state.machine import State
from muster.mesh import names
from muster.mesh.connection import connect
from muster.mesh.embedded_nats import EmbeddedNats
from muster.mesh.jetstream import Publisher
from tests.kit.waiting import deadline


async def test_a_definition_that_goes_while_the_bucket_is_read_holds_nothing_up(
    fresh_nats: EmbeddedNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = JetStreamContext.add_consumer

    async def then_purge(js: JetStreamContext, stream: str, *args: Any, **fields: Any) -> ConsumerInfo:
        """The server has said that there is a definition; now it goes without a word."""
        info = await add(js, stream, *args, **fields)
        await js.purge_stream(stream, subject=names.entry(names.TRIGGER_BUCKET, "gone"))
        return info

    async with connect(fresh_nats.url, name="test") as client, Publisher(client) as publisher:
        bucket = await client.jetstream().create_key_value(KeyValueConfig(bucket=names.TRIGGER_BUCKET))
        await bucket.put("gone", b"{}")
        monkeypatch.setattr(JetStreamContext, "add_consumer", then_purge)
        async with deadline(10, "an answer"):
            assert set(await Definitions(client, publisher, State()).doubtful()) == set()
