"""The mesh's settings: seeded once, changed by `apply` alone, followed by all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nats.aio.client import Client
from nats.js.errors import KeyNotFoundError

from muster.blueprints.manifest import load
from muster.broker.api.context import ApiSettings
from muster.broker.main import Broker, BrokerSettings
from muster.mesh import disk, names
from muster.mesh.caller import Caller
from muster.mesh.connection import connect
from muster.mesh.errors import InvalidError, RefusedError
from muster.mesh.jetstream_api import ask, stream_config
from muster.mesh.messages import Assignment
from tests.kit.servers import Account
from tests.kit.waiting import eventually

SECOND = 1_000_000_000
ELEMENT = "kind: machine\nname: e1\n"


@asynccontextmanager
async def brokers(nats: Account, folder: Path, *flags: dict[str, Any]) -> AsyncIterator[list[Broker]]:
    """Brokers of one mesh, each with its flags; the first one leads."""
    async with AsyncExitStack() as stack:
        started = []
        for number, given in enumerate(flags):
            settings = BrokerSettings(
                server=nats.url,
                open=True,
                data=folder / str(number),
                api=ApiSettings(port=0),
                durability="fast",
                ready_line=False,
                **given,
            )
            started.append(broker := Broker(settings))
            await broker.start(stack)
            broker.mesh_settings.notice = timedelta(0)
        assert started[0].leader.leads
        yield started


async def apply(broker: Broker, text: str) -> None:
    await broker.commands.objects.apply(load(f"kind: mesh\nname: mesh\n{text}"), by=Caller(name="test"))


async def shown(broker: Broker) -> dict[str, Any]:
    """The settings without what every object has."""
    found = await broker.query.object("mesh", "mesh")
    return {key: value for key, value in found.items() if key not in {"version", "created_at", "changed_at"}}


async def wait_of(client: Client, stream: str, consumer: str) -> float:
    """Seconds after which a consumer's work goes to somebody else."""
    return float((await ask(client, f"CONSUMER.INFO.{stream}.{consumer}"))["config"]["ack_wait"]) / SECOND


async def assigned(client: Client, element: str) -> float:
    """The lease that an element's agent is given; 0 before it is given any."""
    bucket = await client.jetstream().key_value(names.ASSIGNMENT_BUCKET)
    with suppress(KeyNotFoundError):
        return msgspec.json.decode((await bucket.get(element)).value or b"", type=Assignment).lease
    return 0.0


async def test_flags_seed_a_new_mesh(fresh_nats: Account, tmp_path: Path) -> None:
    async with brokers(fresh_nats, tmp_path, {"lease": timedelta(seconds=10)}) as (broker,):
        assert await shown(broker) == {
            "kind": "mesh",
            "name": "mesh",
            "lease": "10s",
            "replicas": 1,
            "retention": {"events": {"age": "7d"}, "output": {"age": "7d", "size": "8GB"}},
        }


async def test_a_second_brokers_flags_change_nothing_and_are_reported(fresh_nats: Account, tmp_path: Path) -> None:
    """With two leases in one mesh, a pool's order goes to a second agent while the first one still runs it."""
    first, second = {"lease": timedelta(seconds=10)}, {"lease": timedelta(seconds=60), "replicas": 3}
    async with brokers(fresh_nats, tmp_path, first, second) as (leader, other):
        await leader.commands.objects.apply(load(ELEMENT), by=Caller(name="test"))
        await eventually(lambda: assigned(leader.client, "e1"))
        assert await wait_of(leader.client, names.WORK_STREAM, names.element_consumer("e1")) == 10
        assert await wait_of(leader.client, names.INBOX_STREAM, names.INBOX_CONSUMER) == 10
        assert other.lease.longer == other.lease.shorter == timedelta(seconds=10)
        assert (await stream_config(leader.client, names.LOG_STREAM))["num_replicas"] == 1
        warnings = (await other.status()).warnings
        assert [it.partition(":")[0] for it in warnings] == [
            "--lease 1m of this broker is ignored",
            "--replicas 3 of this broker is ignored",
        ]
        assert (await leader.status()).warnings == ()


async def test_a_broker_without_flags_changes_no_stream(fresh_nats: Account, tmp_path: Path) -> None:
    """An older broker, or one with the default flags, takes away nothing that somebody has set."""
    async with brokers(fresh_nats, tmp_path, {}):
        pass
    async with connect(fresh_nats.url, name="test") as client:
        before = {}
        for stream in (names.LOG_STREAM, names.WORK_STREAM, names.OUTPUT_STREAM, names.INBOX_STREAM):
            config = await stream_config(client, stream)
            later = {"description": "of a later version", "subjects": [*config["subjects"], f"later.{stream}"]}
            await ask(client, f"STREAM.UPDATE.{stream}", config | later)
            before[stream] = await stream_config(client, stream)
        async with brokers(fresh_nats, tmp_path / "again", {}):
            after = {stream: await stream_config(client, stream) for stream in before}
            assert after == before


async def test_a_stream_of_an_earlier_version_gets_what_it_lacks(fresh_nats: Account, tmp_path: Path) -> None:
    async with connect(fresh_nats.url, name="test") as client:
        old = {"name": names.LOG_STREAM, "subjects": [names.LOG_SUBJECTS], "storage": "file", "num_replicas": 1}
        await ask(client, f"STREAM.CREATE.{names.LOG_STREAM}", old)
        async with brokers(fresh_nats, tmp_path, {}):
            found = await stream_config(client, names.LOG_STREAM)
        assert found["allow_atomic"]
        assert found["allow_direct"]
        assert found["republish"]


async def test_a_longer_lease_reaches_the_server_and_the_agents(fresh_nats: Account, tmp_path: Path) -> None:
    async with brokers(fresh_nats, tmp_path, {"lease": timedelta(seconds=10)}, {}) as (leader, other):
        await leader.commands.objects.apply(load(ELEMENT), by=Caller(name="test"))
        await eventually(lambda: assigned(leader.client, "e1"))
        await apply(other, "lease: 20s")

        async def is_followed() -> bool:
            assert await wait_of(leader.client, names.WORK_STREAM, names.element_consumer("e1")) == 20
            assert await wait_of(leader.client, names.INBOX_STREAM, names.INBOX_CONSUMER) == 20
            assert await assigned(leader.client, "e1") == 20
            return not other.lease.is_changing and not leader.lease.is_changing

        await eventually(is_followed, within=30)
        assert leader.lease.shorter == other.lease.shorter == timedelta(seconds=20)


async def test_a_shorter_lease_reaches_the_server_once_every_agent_uses_it(fresh_nats: Account, tmp_path: Path) -> None:
    """An agent that is cut off holds its orders for as long as it was granted: nobody else gets them before."""
    async with brokers(fresh_nats, tmp_path, {"lease": timedelta(seconds=6)}, {}) as (leader, other):
        await leader.commands.objects.apply(load(ELEMENT), by=Caller(name="test"))
        await eventually(lambda: assigned(leader.client, "e1"))
        await apply(leader, "lease: 1s")

        async def agents_know() -> bool:
            return await assigned(leader.client, "e1") == 1

        await eventually(agents_know, within=30)
        for broker in (leader, other):
            assert broker.lease.longer == timedelta(seconds=6)
            assert broker.lease.shorter == timedelta(seconds=1)
        assert await wait_of(leader.client, names.WORK_STREAM, names.element_consumer("e1")) == 6
        assert await wait_of(leader.client, names.INBOX_STREAM, names.INBOX_CONSUMER) == 6

        async def is_followed() -> bool:
            assert await wait_of(leader.client, names.WORK_STREAM, names.element_consumer("e1")) == 1
            return not other.lease.is_changing and not leader.lease.is_changing

        await eventually(is_followed, within=30)
        assert await wait_of(leader.client, names.INBOX_STREAM, names.INBOX_CONSUMER) == 1


async def test_output_is_kept_as_the_settings_say(fresh_nats: Account, tmp_path: Path) -> None:
    async with brokers(fresh_nats, tmp_path, {}) as (broker,):
        await apply(broker, "retention: {output: {age: 1d, size: 1MB}}")

        async def is_followed() -> bool:
            found = await stream_config(broker.client, names.OUTPUT_STREAM)
            assert found["max_bytes"] == disk.MIB
            return bool(found["max_age"] == 86400 * SECOND)

        await eventually(is_followed, within=30)
        assert (await shown(broker))["retention"] == {"events": {"age": "7d"}, "output": {"age": "1d", "size": "1MB"}}


async def test_a_server_without_space_for_more_output_keeps_what_it_has(fresh_nats: Account, tmp_path: Path) -> None:
    async with brokers(fresh_nats, tmp_path, {}) as (broker,):
        before = (await stream_config(broker.client, names.OUTPUT_STREAM))["max_bytes"]
        await apply(broker, "retention: {output: {size: 999999GB}}")

        async def is_followed() -> bool:
            found = await stream_config(broker.client, names.OUTPUT_STREAM)
            assert found["max_bytes"] == before
            return disk.wanted_output(found) == 999_999 * disk.GIB

        await eventually(is_followed, within=30)


async def test_a_field_that_is_left_out_keeps_its_value(fresh_nats: Account, tmp_path: Path) -> None:
    async with brokers(fresh_nats, tmp_path, {"lease": timedelta(seconds=45)}) as (broker,):
        await apply(broker, "retention: {events: {age: 1d}}")
        assert (await shown(broker))["lease"] == "45s"
        assert (await shown(broker))["retention"]["output"] == {"age": "7d", "size": "8GB"}


async def test_copies_that_no_server_can_keep_are_refused_before_they_are_on_the_log(
    fresh_nats: Account, tmp_path: Path
) -> None:
    async with brokers(fresh_nats, tmp_path, {}) as (broker,):
        with pytest.raises(RefusedError, match="3 copies of each stream need a NATS cluster"):
            await apply(broker, "replicas: 3")
        assert (await shown(broker))["replicas"] == 1


async def test_the_settings_are_one_object_that_nobody_deletes(fresh_nats: Account, tmp_path: Path) -> None:
    async with brokers(fresh_nats, tmp_path, {}) as (broker,):
        with pytest.raises(RefusedError, match="holds the settings of this mesh; change it with `muster apply`"):
            await broker.commands.objects.delete("mesh", "mesh", by=Caller(name="test"))
        with pytest.raises(InvalidError, match="are one object, named 'mesh'"):
            await broker.commands.objects.apply(load("kind: mesh\nname: other\n"), by=Caller(name="test"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lease: 10ms", "10ms is not between 1 s and 1 days"),
        ("lease: later", "'later'"),
        ("replicas: 9", "9 is more than 5"),
        ("retention: {events: {age: 1s}}", "1s is not between"),
        ("retention: {orders: {count: 0}}", "0 is less than 1"),
        ("retention: {output: {size: 1KB}}", "1KB is less than 1MB"),
        ("retention: {output: {size: much}}", "'much' is not a size"),
    ],
)
async def test_settings_out_of_range_are_refused(broker: Broker, text: str, message: str) -> None:
    with pytest.raises(InvalidError) as caught:
        await apply(broker, text)
    assert message in str(caught.value.problems[0].message)
