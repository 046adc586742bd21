"""The broker survives any message on the log, and a new one starts from it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
from nats.aio.msg import Msg

from muster.blueprints.manifest import load
from muster.broker.api.context import ApiSettings
from muster.broker.main import Broker, BrokerSettings
from muster.mesh import names
from muster.mesh.caller import Caller
from tests.kit.servers import Nats
from tests.kit.waiting import deadline, eventually

COMMAND = "e1\r\nPUB muster.injected  0\r\n\r\n"
"""A name that would be a command of the broker's, if it were written as it is."""

CREATED = {"type": "created", "order": "o1", "blueprint": "nothing", "version": 1, "digest": "d", "by": {"name": "x"}}
FIRED = {"type": "fired", "id": "f1", "trigger": "bell", "version": 1, "by": {"name": "x"}}

HOSTILE: list[tuple[str, Any]] = [
    ("order.é", CREATED | {"order": "é", "element": "e1"}),
    ("order.o1", CREATED | {"element": COMMAND}),
    ("order.o2", CREATED | {"order": "o2", "pool": COMMAND, "where": "true"}),
    ("order.o3", CREATED | {"order": "o3", "element": "e1", "digest": COMMAND}),
    ("order.o4", CREATED | {"order": "o4", "element": "é" * 2100}),
    ("order.o5", {"type": "created", "order": "x" * 1_000_000}),
    ("order." + "a" * 4000, CREATED | {"order": "a" * 4000}),
    ("order." + "é" * 2000, CREATED | {"order": "é" * 2000}),
    ("order.o6", FIRED | {"orders": [{"id": COMMAND}]}),
    ("element.e1", {"type": "joined", "element": "e1", "agent": COMMAND}),
    ("element.é", {"type": "drain_changed", "element": "é", "drained": True, "by": {"name": "x"}}),
    ("objects.a1", {"type": "applied", "id": "a1", "manifests": [{"kind": "machine", "name": COMMAND}]}),
    ("objects.a2", {"type": "applied", "id": "a2", "manifests": [{"kind": "pool", "name": "a b"}]}),
    ("objects.a3", {"type": "deleted", "id": "a3", "object_kind": "pool", "name": COMMAND, "by": {"name": "x"}}),
    ("inbox.i1", {"type": "announced", "id": "i1", "name": COMMAND}),
    ("inbox.i2", {"type": "rejected", "id": "i2", "subject": COMMAND, "reason": COMMAND, "body": "x" * 6_000_000}),
    ("nonsense.é", "not a record"),
]  # fmt: skip


async def test_no_record_costs_the_broker_its_connection(broker: Broker, fresh_nats: Nats, tmp_path: Path) -> None:
    injected: list[Msg] = []

    async def heard(message: Msg) -> None:
        injected.append(message)

    await broker.client.subscribe("muster.injected", cb=heard)
    js = broker.client.jetstream()
    async with deadline(30):
        for subject, record in HOSTILE:
            await js.publish(f"muster.log.{subject}.broker", msgspec.json.encode(record))
        last = (await js.publish("muster.log.order.raw.broker", b"\xff\r\n\0")).seq
        await eventually(lambda: broker.state.seq >= last)
        await broker.commands.objects.apply(load("{kind: machine, name: after}"), by=Caller(name="test"))
        assert not broker.state.orders
        assert broker.client.stats["reconnects"] == 0
        settings = BrokerSettings(
            server=fresh_nats.url,
            data=tmp_path / "other",
            api=ApiSettings(port=0),
            durability="fast",
            open=True,
            ready_line=False,
        )
        async with AsyncExitStack() as stack:
            again = Broker(settings)
            await again.start(stack)
            assert "after" in again.state.elements
            assert again.client.is_connected
    assert not injected
    assert all(names.is_name(name) for name in broker.state.elements)
