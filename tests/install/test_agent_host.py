"""What docs/how-to/hosts.md installs on an agent's host: the lock file, a wheel, and no web framework."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.meshes import mesh_of_its_own
from tests.kit.processes import ROOT, Program, clean_env

SERVER_PARTS = ("litestar", "uvicorn", "apscheduler", "multipart", "prometheus_client", "dateutil", "nats_server")

BUILD = ("--no-deps", "--no-build-isolation")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def run(*argv: str | Path, cwd: Path) -> str:
    done = subprocess.run([*map(str, argv)], capture_output=True, text=True, check=False, timeout=240, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment as the documentation makes it; its `bin` folder."""
    folder = tmp_path_factory.mktemp("host")
    run(sys.executable, "-m", "pip", "wheel", "-q", *BUILD, "-w", folder, ROOT, cwd=folder)
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    pip: list[str | Path] = [folder / "venv/bin/pip", "install", "-q", "--disable-pip-version-check"]
    run(*pip, "--require-hashes", "-r", ROOT / "requirements/agent.txt", cwd=folder)
    run(*pip, "--no-deps", *folder.glob("muster_mesh-*.whl"), cwd=folder)
    return folder / "venv/bin"


def test_an_agents_host_gets_no_web_framework(host: Path, tmp_path: Path) -> None:
    look = "import sys; from importlib.util import find_spec; print([n for n in sys.argv[1:] if find_spec(n)])"
    assert run(host / "python", "-I", "-c", look, *SERVER_PARTS, cwd=tmp_path) == "[]\n"


async def test_it_runs_orders_of_a_mesh_elsewhere(host: Path, tmp_path: Path) -> None:
    async with mesh_of_its_own(tmp_path / "mesh") as (_, mesh):
        env = {**mesh.env, "PYTHONPATH": "", "MUSTER_DATA": str(tmp_path / "data")}
        argv = [str(host / "muster"), "agent", "--element", "web01", "--server", mesh.nats]
        async with Program.start(argv, env=env, cwd=tmp_path) as agent:
            await agent.line("agent.ready", stream="err")
            assert "finished" in await mesh.ok("run", "hello", "--on", "web01", "--wait")


@pytest.mark.parametrize("command", ["up", "broker", "triggers", "demo"])
def test_what_needs_the_server_parts_says_where_they_come_from(host: Path, command: str, tmp_path: Path) -> None:
    env = {**clean_env(tmp_path), "PYTHONPATH": ""}
    argv: list[str | Path] = [host / "muster", command]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30, cwd=tmp_path, env=env)
    assert done.returncode == 2
    assert f"`muster {command}` needs the server parts" in done.stderr
    assert "requirements/server.txt" in done.stderr
