from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from muster.cli import checks
from muster.mesh.embedded_nats import EmbeddedNats, NatsSettings
from muster.mesh.version import OURS, SILENT, Speaker, agent_misfit
from tests.kit.meshes import Mesh
from tests.kit.ports import free_port
from tests.kit.processes import clean_env, muster
from tests.kit.servers import Nats


async def results(*args: str, env: dict[str, str]) -> dict[str, str]:
    ran = await muster("doctor", *args, "-o", "json", env=env)
    reported = json.loads(ran.stdout)
    assert ran.code == (0 if reported["healthy"] else 1)
    return {check["name"]: check["result"] for check in reported["checks"]}


async def test_a_healthy_mesh_is_found_healthy(mesh: Mesh) -> None:
    ran = await mesh.muster("doctor")
    assert ran.code == 0, ran.stdout
    reported = json.loads((await mesh.muster("doctor", "-o", "json")).stdout)
    warns = any(check["result"] == "warning" for check in reported["checks"])  # as root it does: tasks run as root too
    assert ("all is well" in ran.stdout) is not warns
    assert ("checks warn" in ran.stdout) is warns
    found = await results(env=mesh.env)
    assert {"Python", "nats-server", "data folder", "HTTP API", "versions", "broker", "clock", "agents"} <= set(found)
    doors = "access to HTTP", "access to NATS"
    assert {found[name] for name in ("NATS", "JetStream", "streams", *doors)} == {"ok"}


@pytest.mark.skipif(os.geteuid() != 0, reason="an agent of another user does not run tasks as root")
async def test_tasks_that_run_as_root_are_a_warning(mesh: Mesh) -> None:
    reported = json.loads((await mesh.muster("doctor", "-o", "json")).stdout)
    (found,) = [check for check in reported["checks"] if check["name"] == "isolation"]
    assert found["result"] == "warning"
    assert mesh.element in found["found"]
    assert "--run-as" in found["hint"]


async def test_nothing_running_is_reported_with_the_hint(tmp_path: Path) -> None:
    nowhere = {"MUSTER_API": f"http://127.0.0.1:{free_port()}", "MUSTER_SERVER": f"nats://127.0.0.1:{free_port()}"}
    ran = await muster("doctor", env=clean_env(tmp_path, **nowhere))
    assert ran.code == 1
    assert "muster up" in ran.stdout
    assert ran.stderr == ""


async def test_a_server_that_no_broker_has_met_lacks_streams(tmp_path: Path, fresh_nats: Nats) -> None:
    found = await results("--server", fresh_nats.url, env=clean_env(tmp_path))
    assert (found["NATS"], found["JetStream"], found["streams"]) == ("ok", "ok", "wrong")
    assert found["access to NATS"] == "warning", "it asks for no token"


async def test_a_token_that_nats_refuses_is_one_finding_among_all(tmp_path: Path) -> None:
    async with EmbeddedNats(NatsSettings(folder=tmp_path / "nats", durability="fast", token="right")) as server:
        found = await results("--server", server.url, env=clean_env(tmp_path, MUSTER_NATS_TOKEN="wrong"))
    assert {"Python", "HTTP API"} < set(found)
    assert found["NATS"] == "wrong"


async def test_a_missing_program_and_a_folder_that_is_none_are_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    env = clean_env(tmp_path, MUSTER_NATS_SERVER=str(tmp_path / "none"), MUSTER_DATA=str(tmp_path / "file"))
    found = await results(env=env)
    assert found["nats-server"] == "warning"
    assert found["data folder"] == "wrong"


def test_agents_whose_version_or_clock_does_not_fit_are_named() -> None:
    clock = "its host's clock is 3600 s ahead of the broker's"
    version = agent_misfit(Speaker(version="0.0.9"))
    found = list(checks._troubles({"troubles": {"web01": clock, "web02": version}}))
    assert [(check.result, check.found) for check in found] == [
        ("warning", f"web01: {clock}"),
        ("wrong", f"web02: {version}"),
    ]
    assert found[1].hint == "upgrade the agent"


def test_a_flag_that_differs_from_the_meshs_settings_is_a_warning() -> None:
    warning = "--lease 1m of this broker is ignored: the lease of this mesh is 30s; start this broker without the flag"
    (found,) = checks._settings({"warnings": [warning]})
    assert found.result == "warning"
    assert found.found == "--lease 1m of this broker is ignored: the lease of this mesh is 30s"
    assert found.hint == "start this broker without the flag"


def test_a_broker_of_another_protocol_is_wrong_though_its_version_is_ours() -> None:
    found = checks._version({"version": OURS.version})
    assert found.result == "wrong"
    assert f"{OURS.version} (protocol {SILENT})" in found.found
    assert found.hint == "upgrade the broker"
    assert checks._version({"version": OURS.version, "protocol": OURS.protocol}).result == "ok"


async def test_it_looks_at_the_folder_of_the_mesh_that_runs(mesh: Mesh) -> None:
    env = {name: value for name, value in mesh.env.items() if name not in {"MUSTER_DATA", "MUSTER_SERVER"}}
    ran = await muster("doctor", "-o", "json", env=env)
    found = {check["name"]: check for check in json.loads(ran.stdout)["checks"]}
    assert str(mesh.data) in found["data folder"]["found"], ran
    assert found["NATS"]["result"] == "ok", ran
