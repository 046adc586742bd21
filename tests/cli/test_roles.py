"""The roles alone, each its own process, as on several machines."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.kit.ports import free_port
from tests.kit.processes import clean_env, muster, running


@pytest.mark.slow
async def test_server_broker_and_agent_make_a_mesh(tmp_path: Path) -> None:
    env = clean_env(tmp_path, MUSTER_DATA=str(tmp_path / "data"))
    async with running("server", "--nats", "127.0.0.1:0", env=env) as server:
        nats = (await server.line("ready nats=")).partition("=")[2]
        where = ["--server", nats]
        async with running("broker", *where, "--http", "127.0.0.1:0", env=env) as broker:
            api = (await broker.line("ready broker api=")).partition("api=")[2].split()[0]
            async with running("agent", *where, "--element", "web01", env=env) as agent:
                await agent.line("agent.ready", stream="err")
                reported = env | {"MUSTER_API": api}
                obey = str(Path(__file__).parents[1] / "blueprints" / "obey.yaml")
                assert (await muster("apply", "-f", obey, env=reported)).code == 0
                ran = await muster("run", "obey", "--on", "web01", "--follow", env=reported)
                assert ran.code == 0, ran
                assert await agent.stop() == 0
            assert await broker.stop() == 0
        assert await server.stop() == 0


async def test_a_role_without_a_server_exits_4(tmp_path: Path) -> None:
    env = clean_env(tmp_path, MUSTER_DATA=str(tmp_path / "data"), MUSTER_SERVER=f"nats://127.0.0.1:{free_port()}")
    ran = await muster("broker", "--http", "127.0.0.1:0", env=env)
    assert ran.code == 4
    assert "no NATS server answers" in ran.stderr
    assert "Traceback" not in ran.stderr


async def test_a_role_that_waits_for_nats_says_so_and_ends_when_asked(tmp_path: Path) -> None:
    env = clean_env(tmp_path, MUSTER_DATA=str(tmp_path / "data"), MUSTER_SERVER=f"nats://127.0.0.1:{free_port()}")
    for role in (["agent", "--element", "web01"], ["triggers", "--http", "127.0.0.1:0"]):
        async with running(*role, env=env) as program:
            await program.line("nats.waiting", stream="err")
            assert await program.stop(signal.SIGINT, within=10) == 0


@pytest.mark.slow
async def test_the_demo_shows_an_order_and_leaves_nothing(tmp_path: Path) -> None:
    ran = await muster("demo", env=clean_env(tmp_path, TMPDIR=str(tmp_path)), within=50)
    assert ran.code == 0, ran
    for word in ("ready after", "host-report", "finished", "claimed", "muster up"):
        assert word in ran.stdout
    assert list(tmp_path.glob("muster-demo-*")) == []
