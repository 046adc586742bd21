from __future__ import annotations

import signal
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest

from muster.mesh.embedded_nats import EmbeddedNats
from tests.kit.http import http_client
from tests.kit.meshes import Mesh, mesh_of_its_own, parse_ready, up_options
from tests.kit.processes import Program, clean_env, muster, running
from tests.kit.waiting import eventually


def part(program: Program, role: str) -> psutil.Process:
    """The process of one role in the tree."""
    return next(process for process in program.tree() if role in process.cmdline()[:5] or role in process.name())


async def is_ready(mesh: Mesh) -> bool:
    async with http_client(mesh.api) as client:
        try:
            return (await client.get("/readyz")).status_code == 200
        except httpx.TransportError:
            return False


async def test_orders_can_run_once_it_says_ready(mesh: Mesh) -> None:
    assert "ok hi" in await mesh.ok("run", "obey", "--on", mesh.element, "-i", "text=hi", "--follow")


@pytest.mark.slow
async def test_a_signal_ends_the_whole_tree_cleanly_and_all_is_as_it_was(tmp_path: Path) -> None:
    async with mesh_of_its_own(tmp_path) as (program, mesh):
        tree = program.tree()
        assert len(tree) >= 4
        await mesh.ok("run", "hello", "--on", mesh.element, "--wait")
        await mesh.ok("delete", "blueprint", "heartbeat")
        assert await program.stop(signal.SIGTERM) == 0
        assert not psutil.wait_procs(tree, timeout=2)[1]
    async with mesh_of_its_own(tmp_path) as (_, mesh):
        assert "finished" in await mesh.ok("orders")
        assert (await mesh.muster("get", "blueprint", "heartbeat")).code == 3, "the library brought it back"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
async def test_other_signals_to_end_are_as_good(tmp_path: Path, number: signal.Signals) -> None:
    async with running(*up_options(tmp_path / "data"), "--no-agent", env=clean_env(tmp_path)) as program:
        assert "element=- " in await program.line("ready api=")
        assert await program.stop(number) == 0


async def test_two_on_one_folder_are_refused_and_the_holder_is_named(mesh: Mesh) -> None:
    ran = await muster(*up_options(mesh.data), env=mesh.env)
    assert ran.code == 3
    assert f"process {mesh.pid}" in ran.stderr
    assert ran.stdout == ""


@pytest.mark.slow
async def test_a_tree_killed_at_once_starts_again_on_the_same_folder(tmp_path: Path) -> None:
    async with mesh_of_its_own(tmp_path) as (program, mesh):
        await mesh.ok("run", "hello", "--on", mesh.element, "--wait")
        await program.kill_tree()
    async with mesh_of_its_own(tmp_path) as (_, mesh):
        assert "finished" in await mesh.ok("orders")


@pytest.mark.slow
async def test_the_parts_die_with_a_killed_supervisor(tmp_path: Path) -> None:
    async with mesh_of_its_own(tmp_path) as (program, _):
        parts = program.tree()[1:]
        program.process.kill()
        await eventually(lambda: not [one for one in parts if one.is_running()], within=10, what="the parts' end")


def started_again(program: Program, times: int) -> bool:
    """Whether parts were started again so often."""
    return program.stderr.count("part.starts_again") >= times


@pytest.mark.slow
async def test_a_part_that_was_killed_is_started_again(tmp_path: Path) -> None:
    async with mesh_of_its_own(tmp_path) as (program, mesh):
        for number, role in enumerate(("broker", "agent", "nats-server"), 1):
            part(program, role).kill()
            await eventually(partial(started_again, program, number), what=f"{role} starts again")
            await eventually(lambda: is_ready(mesh), within=20, what="readiness")
            ran = await mesh.muster("run", "hello", "--on", mesh.element, "--wait", "--timeout", "25s", within=40)
            assert ran.code == 0, (role, ran, program.stderr[-3000:])
        assert await program.stop(within=40) == 0


@pytest.mark.slow
async def test_a_second_signal_kills(tmp_path: Path) -> None:
    async with mesh_of_its_own(tmp_path) as (program, _):
        agent = part(program, "agent")
        agent.suspend()  # so that the clean end takes its time
        program.process.send_signal(signal.SIGTERM)
        await program.line("up.stops", stream="err")
        assert await program.stop(signal.SIGTERM, within=10) == 130


async def test_a_port_in_use_ends_it_with_words(tmp_path: Path, nats_server: EmbeddedNats) -> None:
    taken = f"127.0.0.1:{nats_server.port}"
    ran = await muster("up", "--data", str(tmp_path / "d"), "--nats", taken, env=clean_env(tmp_path))
    assert ran.code == 4
    assert f"port {nats_server.port}" in ran.stderr
    assert "Traceback" not in ran.stderr


async def test_an_http_port_in_use_ends_it_with_words(mesh: Mesh, tmp_path: Path) -> None:
    port = mesh.api.rpartition(":")[2]
    options = ["--data", str(tmp_path / "d"), "--nats", "127.0.0.1:0", "--http", f"127.0.0.1:{port}"]
    ran = await muster("up", *options, env=clean_env(tmp_path))
    assert ran.code != 0
    assert port in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--http", "8642"), "--http takes HOST:PORT"),
        (("--nats", "localhost:99999"), "--nats takes HOST:PORT"),
        (("--element", "Not A Name"), "cannot be an element's name"),
        (("--durability", "some"), "safe"),
    ],
)
async def test_options_that_make_no_sense_are_bad_usage(tmp_path: Path, options: tuple[str, str], word: str) -> None:
    ran = await muster("up", "--data", str(tmp_path / "d"), *options, env=clean_env(tmp_path))
    assert ran.code == 2
    assert word in ran.stderr


@pytest.mark.slow
async def test_a_nats_token_is_asked_for_and_stands_on_no_command_line(tmp_path: Path) -> None:
    env = clean_env(tmp_path, MUSTER_NATS_TOKEN="s3cret-of-nats", MUSTER_TOKEN="s3cret-of-api")
    async with running(*up_options(tmp_path / "data"), env=env) as program:
        reported = parse_ready(await program.line("ready api="), tmp_path, program.pid)
        assert not [process for process in program.tree() if "s3cret" in " ".join(process.cmdline())]
        assert (await reported.muster("get", "machines")).code == 3
        assert (await reported.muster("get", "machines", MUSTER_TOKEN="s3cret-of-api")).code == 0
        assert await program.stop() == 0
