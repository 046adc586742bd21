"""A projection and a log that do not belong together."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from muster.blueprints.manifest import load
from muster.broker.api.context import ApiSettings
from muster.broker.main import Broker, BrokerSettings
from muster.mesh.caller import Caller
from muster.mesh.connection import connect
from muster.mesh.embedded_nats import EmbeddedNats, NatsSettings
from muster.mesh.errors import UnavailableError
from muster.mesh.names import LOG_STREAM


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


async def trim(nats: Path, up_to: int) -> None:
    """Delete the start of a mesh's log."""
    async with (
        EmbeddedNats(NatsSettings(folder=nats, durability="fast")) as server,
        connect(server.url, name="test") as client,
    ):
        await client.jetstream().purge_stream(LOG_STREAM, seq=up_to + 1)


async def test_a_log_without_its_start_is_refused_by_a_broker_that_has_not_seen_it(tmp_path: Path) -> None:
    await use(tmp_path / "nats", tmp_path / "broker", "a", "b", "c")
    await trim(tmp_path / "nats", up_to=2)
    with pytest.raises(UnavailableError, match=r"records 1 to 2 are missing.* restore the streams .* from a backup"):
        await use(tmp_path / "nats", tmp_path / "new-broker")
    await use(tmp_path / "nats", tmp_path / "broker", "z")


async def test_a_log_of_which_nothing_is_left_is_refused_likewise(tmp_path: Path) -> None:
    await use(tmp_path / "nats", tmp_path / "broker", "a")
    await trim(tmp_path / "nats", up_to=100)
    with pytest.raises(UnavailableError, match="records 1 to 100 are missing"):
        await use(tmp_path / "nats", tmp_path / "new-broker")


async def test_a_log_with_a_hole_is_refused(tmp_path: Path) -> None:
    await use(tmp_path / "nats", tmp_path / "broker", "a", "b", "c")
    async with (
        EmbeddedNats(NatsSettings(folder=tmp_path / "nats", durability="fast")) as server,
        connect(server.url, name="test") as client,
    ):
        await client.jetstream().delete_msg(LOG_STREAM, 2)
    with pytest.raises(UnavailableError, match="record 2 is missing"):
        await use(tmp_path / "nats", tmp_path / "new-broker")


async def test_a_log_of_another_version_is_refused(tmp_path: Path) -> None:
    """Its objects and orders would be lost in silence."""
    earlier = b'{"type":"applied","id":"x","manifests":[{"kind":"machine","name":"a"}],"by":"http"}'
    async with (
        EmbeddedNats(NatsSettings(folder=tmp_path / "nats", durability="fast")) as server,
        connect(server.url, name="test") as client,
    ):
        await client.jetstream().add_stream(name=LOG_STREAM, subjects=["muster.log.>"])
        await client.jetstream().publish("muster.log.objects.x.broker", earlier)
    with pytest.raises(UnavailableError, match=r"another version of Muster.* empty data folder"):
        await use(tmp_path / "nats", tmp_path / "broker")
