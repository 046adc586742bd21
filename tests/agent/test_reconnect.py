"""NATS goes away and comes back while work is under way."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from muster.agent.settings import AgentSettings
from muster.mesh import names, records
from muster.mesh.connection import connect
from muster.mesh.embedded_nats import EmbeddedNats, NatsSettings
from muster.mesh.model import OrderState
from tests.agent.broker_stand_in import stand_in
from tests.agent.conftest import running_agent
from tests.kit.ports import free_port
from tests.kit.waiting import eventually


async def records_of(server: EmbeddedNats, order: str) -> list[records.AnyRecord]:
    """What the log has about an order, read afresh."""
    async with connect(server.url, name="reader") as client:
        js = client.jetstream(timeout=5)
        found = []
        for sequence in range(1, (await js.stream_info(names.LOG_STREAM)).state.last_seq + 1):
            message = await js.get_msg(names.LOG_STREAM, sequence)
            record, _ = records.decode(message.subject or "", message.data or b"")
            if isinstance(record, records.OrderRecord) and record.order == order:
                found.append(record)
        return found  # type: ignore[return-value]


async def test_a_task_goes_on_while_nats_restarts_and_its_end_arrives(tmp_path: Path) -> None:
    nats = NatsSettings(folder=tmp_path / "nats", durability="fast", port=free_port())
    settings = AgentSettings(
        elements=("e1",), data=tmp_path / "agent", server=f"nats://127.0.0.1:{nats.port}", open=True
    )
    async with EmbeddedNats(nats) as server, stand_in(server.url, timedelta(seconds=10)) as broker:
        await broker.element("e1")
        go, out = tmp_path / "go", tmp_path / "out"
        run = f"echo before; echo up > {out}; until [ -e {go} ]; do sleep 0.05; done; echo after"
        async with running_agent(settings):
            order = await broker.order([{"name": "a", "run": run}])
            await eventually(out.exists)
            await server.__aexit__(None, None, None)
            go.write_text("")
            async with EmbeddedNats(nats) as again:

                async def ended() -> list[records.AnyRecord]:
                    return [r for r in await records_of(again, order) if isinstance(r, records.Done)]

                done = (await eventually(ended, within=20))[0]
                assert isinstance(done, records.Done)
                assert done.state is OrderState.FINISHED
                assert done.attempt == 1
                async with connect(again.url, name="reader") as client:
                    js = client.jetstream(timeout=5)

                    async def is_empty() -> bool:
                        return (await js.stream_info(names.WORK_STREAM)).state.messages == 0

                    await eventually(is_empty)
                    state = (await js.stream_info(names.OUTPUT_STREAM)).state
                    parts = [
                        (await js.get_msg(names.OUTPUT_STREAM, seq)).data or b""
                        for seq in range(state.first_seq, state.last_seq + 1)
                    ]
                    assert b"".join(parts) == b"before\nafter\n"


async def test_an_agent_takes_work_again_after_nats_was_restarted(tmp_path: Path) -> None:
    nats = NatsSettings(folder=tmp_path / "nats", durability="fast", port=free_port())
    settings = AgentSettings(
        elements=("e1",), data=tmp_path / "agent", server=f"nats://127.0.0.1:{nats.port}", open=True
    )
    server = EmbeddedNats(nats)
    async with server, stand_in(server.url, timedelta(seconds=10)) as broker:
        await broker.element("e1")
        async with running_agent(settings):
            await server.__aexit__(None, None, None)
            async with EmbeddedNats(nats) as again:
                await eventually(lambda: broker.client.is_connected)
                order = await broker.order([{"name": "a", "uses": "noop"}])

                async def ended() -> list[records.AnyRecord]:
                    return [r for r in await records_of(again, order) if isinstance(r, records.Done)]

                await eventually(ended, within=10)
