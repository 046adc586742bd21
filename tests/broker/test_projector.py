"""A projection and a log that do not belong together."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from muster.blueprints.manifest import load
from muster.broker.api.context import ApiSettings
from muster.broker.main import Broker, BrokerSettings
from muster.mesh.caller import Caller
from muster.mesh.embedded_nats import EmbeddedNats, NatsSettings
from muster.mesh.errors import UnavailableError


async def use(nats: Path, data: Path, *machines: str) -> None:
    """Start a mesh, apply machines one by one, and stop it."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(EmbeddedNats(NatsSettings(folder=nats, durability="fast")))
        api = ApiSettings(port=0, grace=1.0)
        settings = BrokerSettings(server=server.url, open=True, data=data, api=api, durability="fast", ready_line=False)
        broker = Broker(settings)
        await broker.start(stack)
        for name in machines:
            await broker.commands.objects.apply(load(f"{{kind: machine, name: {name}}}"), by=Caller(name="test"))


@pytest.mark.parametrize("others", [(), ("b",), ("b", "c", "d")], ids=["shorter", "as long", "longer"])
async def test_a_broker_does_not_go_on_with_another_log(tmp_path: Path, others: tuple[str, ...]) -> None:
    await use(tmp_path / "nats", tmp_path / "broker", "a")
    await use(tmp_path / "other-nats", tmp_path / "other-broker", *others)
    with pytest.raises(UnavailableError, match="replaced or restored"):
        await use(tmp_path / "other-nats", tmp_path / "broker")
    await use(tmp_path / "nats", tmp_path / "broker", "z")
