"""Every blueprint that comes with Muster is valid, and runs on this very machine."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from muster.blueprints.definition import Blueprint
from muster.blueprints.library import paths
from muster.blueprints.manifest import check_all, load
from muster.blueprints.task import Done, Failed
from tests.blueprints.context import Catalog, run_blueprint


def blueprint(name: str) -> Blueprint:
    (path,) = [path for path in paths() if path.stem == name]
    (loaded,) = load(path.read_text(), path.name)
    assert isinstance(loaded.manifest, Blueprint)
    return loaded.manifest


@pytest.mark.parametrize("path", paths(), ids=lambda path: path.stem)
def test_every_shipped_manifest_is_valid(path: Path) -> None:
    loaded = load(path.read_text(), path.name)
    check_all(loaded, Catalog())
    assert [one.name for one in loaded] == [path.stem]


def test_the_obedient_blueprint_is_valid() -> None:
    path = Path(__file__).with_name("obey.yaml")
    check_all(load(path.read_text(), path.name), Catalog())


async def test_host_report_shows_facts_and_checks_of_this_machine(tmp_path: Path) -> None:
    outcomes, context = await run_blueprint(blueprint("host-report"), tmp_path / "work", sample=0, processes=3)
    facts, checks = outcomes["facts"], outcomes["checks"]
    assert isinstance(facts, Done), (facts, context.output)
    assert isinstance(checks, Done), (checks, context.output)
    assert facts.outputs["cpu"]["count"] >= 1
    assert facts.outputs["memory"]["total"] > 0
    assert {disk["mount"] for disk in facts.outputs["disks"]}
    assert "lo" in {interface["name"] for interface in facts.outputs["network"]}
    assert len(facts.outputs["processes"]) == 3
    assert isinstance(checks.outputs["healthy"], bool)
    assert {"memory", "load for each CPU"} <= {check["check"] for check in checks.outputs["checks"]}
    assert "── Memory ─" in context.output.decode()


async def test_a_strict_host_report_fails_where_a_limit_is_passed(tmp_path: Path) -> None:
    outcomes, _ = await run_blueprint(
        blueprint("host-report"), tmp_path / "work", sample=0, load_limit=1e-9, memory_limit=1, strict=True
    )
    checks = outcomes["checks"]
    assert isinstance(checks, Failed)
    assert checks.exit_code == 1
    assert "memory" in checks.outputs["passed_limits"]


async def test_heartbeat_reports_how_full_the_disk_is(tmp_path: Path) -> None:
    outcomes, _ = await run_blueprint(blueprint("heartbeat"), tmp_path / "work", disk_limit=100)
    assert isinstance(outcomes["disk"], Done)
    assert 0 <= outcomes["disk"].outputs["used"] <= 100
    assert isinstance(outcomes["alive"], Done)
    assert outcomes["alive"].outputs["uptime_seconds"] > 0


async def test_hello_says_what_it_is_asked(tmp_path: Path) -> None:
    outcomes, context = await run_blueprint(blueprint("hello"), tmp_path / "work", greeting="Good morning; $(id)")
    assert isinstance(outcomes["greet"], Done)
    assert context.output.decode().startswith("Good morning; $(id) from ")


async def test_disk_clean_check_counts_what_could_go(tmp_path: Path) -> None:
    place = tmp_path / "logs"
    place.mkdir()
    (place / "a.log").write_bytes(b"x" * 300_000)
    (place / "b.log").write_bytes(b"x" * 200_000)
    (place / "small.log").write_bytes(b"x")
    inputs = {"path": str(place), "older_than_days": 0, "larger_than_kb": 100}
    outcomes, _ = await run_blueprint(blueprint("disk-clean-check"), tmp_path / "work", **inputs)
    assert isinstance(outcomes["look"], Done)
    assert outcomes["look"].outputs == {"count": 0, "bytes": 0}  # -mtime +0: changed more than a day ago
    for file in place.iterdir():
        os.utime(file, (0, 0))
    outcomes, _ = await run_blueprint(blueprint("disk-clean-check"), tmp_path / "again", **inputs)
    assert isinstance(outcomes["look"], Done)
    assert outcomes["look"].outputs == {"count": 2, "bytes": 500_000}


async def test_port_check_reaches_a_listening_port_and_no_other(tmp_path: Path) -> None:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        outcomes, _ = await run_blueprint(blueprint("port-check"), tmp_path / "work", host="127.0.0.1", port=port)
        assert isinstance(outcomes["connect"], Done)
        assert outcomes["connect"].outputs["address"] == "127.0.0.1"
    outcomes, context = await run_blueprint(blueprint("port-check"), tmp_path / "work", host="127.0.0.1", port=port)
    assert isinstance(outcomes["connect"], Failed)
    assert b"cannot be reached" in context.output
