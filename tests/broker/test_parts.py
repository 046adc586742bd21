"""No part of a broker dies unnoticed."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from muster.broker.api.context import ApiSettings
from muster.broker.finals import Finals
from muster.broker.main import BrokerSettings, serve
from muster.mesh.jetstream import Publisher
from muster.mesh.service import Service
from tests.kit.servers import Nats
from tests.kit.waiting import deadline


@pytest.mark.parametrize("part", [Publisher, Finals])
async def test_a_broker_ends_if_a_part_of_it_fails(
    part: type[Service], fresh_nats: Nats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(self: Any) -> None:
        self.ready.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(0.2):  # by then it has been entered
                await asyncio.Event().wait()
        raise ZeroDivisionError(part.__name__)

    monkeypatch.setattr(part, "run", run)
    settings = BrokerSettings(
        server=fresh_nats.url, open=True, data=tmp_path, api=ApiSettings(port=0), durability="fast", ready_line=False
    )
    async with deadline(20, "the broker's end"):
        with pytest.raises(ZeroDivisionError, match=part.__name__):
            await serve(settings)
