from __future__ import annotations

import pytest

from muster.broker.streams import StreamSettings, ensure
from muster.mesh.connection import connect
from muster.mesh.embedded_nats import EmbeddedNats
from muster.mesh.errors import RefusedError


async def test_copies_on_a_server_alone_are_refused_in_words(nats_server: EmbeddedNats) -> None:
    async with connect(nats_server.url, name="test") as client:
        with pytest.raises(RefusedError, match="3 copies of each stream need a NATS cluster"):
            await ensure(client.jetstream(), StreamSettings(replicas=3))
