"""A leading broker in the test's own process, on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from muster.blueprints.manifest import load
from muster.broker.api.context import ApiSettings
from muster.broker.main import Broker, BrokerSettings
from muster.mesh.caller import Caller
from tests.kit.servers import Nats

MANIFESTS = """
kind: machine
name: e1
---
kind: blueprint
name: nothing
tasks: [{name: nothing, uses: noop}]
---
kind: trigger
name: bell
provider: webhook
with: {auth: none}
blueprint: nothing
target: {on: e1}
"""


@pytest.fixture
def lease() -> timedelta:
    """How long an agent may be silent."""
    return timedelta(seconds=30)


@pytest_asyncio.fixture
async def broker(fresh_nats: Nats, tmp_path: Path, lease: timedelta) -> AsyncIterator[Broker]:
    """A leading broker with one element that nobody acts for."""
    settings = BrokerSettings(
        server=fresh_nats.url,
        open=True,
        data=tmp_path,
        api=ApiSettings(port=0),
        durability="fast",
        lease=lease,
        ready_line=False,
    )
    async with AsyncExitStack() as stack:
        running = Broker(settings)
        await running.start(stack)
        assert running.leader.leads
        await running.commands.objects.apply(load(MANIFESTS), by=Caller(name="test"))
        yield running
