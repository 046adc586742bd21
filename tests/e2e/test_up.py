"""`muster up`, all of it killed in the middle, and started again on the same folder."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest

from tests.kit import record
from tests.kit.blueprints import machine, witness, words
from tests.kit.meshes import mesh_of_its_own, parse_ready, up_options
from tests.kit.processes import Program, clean_env
from tests.kit.waiting import eventually

pytestmark = pytest.mark.slow


async def test_a_power_cut_costs_no_order(tmp_path: Path) -> None:
    file = tmp_path / "lines"
    inputs = ["-i", f"file={file}", "-i", f"gate={tmp_path}/gate"]
    async with mesh_of_its_own(tmp_path) as (program, mesh):
        manifests = [machine("testbox", slots=2), witness("gated", "before", "held", "after", gated="held")]
        text = b"\n---\n".join(msgspec.json.encode(manifest) for manifest in manifests)
        await mesh.ok("apply", "-f", "-", stdin=text)
        orders = []
        for _ in range(4):  # two run, two wait
            made = await mesh.ok("run", "gated", "--on", "testbox", *inputs, "-o", "json")
            orders.append(msgspec.json.decode(made)["orders"][0]["id"])
        await eventually(lambda: len({line.split()[1] for line in words(file) if "tick" in line}) == 2, what="two run")
        await program.kill_tree()
    (tmp_path / "gate").touch()
    async with mesh_of_its_own(tmp_path) as (_, mesh):
        for order in orders:
            ended = await mesh.ok("logs", order, "--follow")
            assert ended == ""
            assert "finished" in await mesh.ok("get", "order", order)
        reported = await record.replay(mesh.plain_url)
        record.check_endings(reported, orders)
        record.check_lines(record.read_lines(file), reported)


async def test_no_part_imports_from_the_current_folder(tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    for name in ("asyncio", "json", "msgspec", "nats", "structlog", "yaml", "muster"):
        (here / f"{name}.py").write_text(
            f"open({str(tmp_path / 'imported')!r}, 'a').write({name!r})\nraise SystemExit(9)"
        )
    argv = [str(Path(sys.executable).parent / "muster"), *up_options(tmp_path / "data")]
    env = {name: value for name, value in clean_env(tmp_path).items() if name != "PYTHONPATH"}
    async with Program.start(argv, env=env, cwd=here) as program:
        mesh = parse_ready(await program.line("ready api="), tmp_path, program.pid)
        assert "finished" in await mesh.ok("run", "hello", "--on", "testbox", "--wait")
        await program.stop()
    assert not (tmp_path / "imported").exists()
