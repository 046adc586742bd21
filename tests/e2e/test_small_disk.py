"""A mesh runs on the disk that it has, says when that is full, and continues by itself once it is not."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import httpx
import msgspec
import nats
import pytest

from muster.mesh import names
from muster.mesh.disk import MIB, NO_SPACE
from tests.kit import record
from tests.kit.blueprints import blueprint, machine, script, trigger, witness, words
from tests.kit.disks import small_disk
from tests.kit.http import http_client
from tests.kit.meshes import parse_ready, up_options
from tests.kit.processes import MUSTER, Program, clean_env, muster
from tests.kit.roles import Client, Roles
from tests.kit.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="function"), pytest.mark.timeout(240)]

BELL = trigger("bell", "webhook", with_={"auth": "none"})
SOON = 30.0
"""Seconds within which everything continues."""


def text(*manifests: dict[str, Any]) -> bytes:
    return b"\n---\n".join(msgspec.json.encode(manifest) for manifest in manifests)


async def fill_up(mesh: Client, blueprint: str, element: str) -> list[str]:
    """Make orders until one is refused; those that were accepted."""
    accepted: list[str] = []
    for _ in range(500):
        answer = await mesh.http.post("/api/v1/orders", json={"blueprint": blueprint, "on": element}, timeout=30)
        if answer.status_code != 201:
            assert answer.status_code == 503
            assert NO_SPACE in answer.json()["detail"]
            return accepted
        accepted += [order["id"] for order in answer.json()["orders"]]
    raise AssertionError


async def says_why(mesh: Client, element: str, server: str, hooks: httpx.AsyncClient) -> None:
    """Every door says that there is no space."""
    assert (await mesh.http.get("/healthz")).status_code == 200

    async def is_reported() -> bool:
        ready = await mesh.http.get("/readyz")
        return ready.status_code == 503 and NO_SPACE in ready.text

    await eventually(is_reported, what="a broker that says why it is not ready")
    assert NO_SPACE in (await mesh.get("info"))["reason"]
    rung = await hooks.post("/hooks/bell", json={}, timeout=30)
    assert rung.status_code == 503
    assert NO_SPACE in rung.text
    ran, applied, doctor = await asyncio.gather(
        mesh.cli("run", "work", "--on", element),
        mesh.cli("apply", "-f", "-", stdin=text(machine("one-more"))),
        mesh.cli("doctor"),
    )
    assert (ran.code, applied.code, doctor.code) == (4, 4, 1)
    for said in (ran.stderr, applied.stderr, doctor.stdout):
        assert NO_SPACE in " ".join(said.split())
    client = await nats.connect(server)
    try:
        question = msgspec.json.encode({"blueprint": "work", "on": element})
        answer = await client.request("muster.api.orders.create", question, timeout=20)
        assert NO_SPACE in msgspec.json.decode(answer.data)["error"]["detail"]
    finally:
        await client.close()


async def continues(mesh: Client, orders: list[str], hooks: httpx.AsyncClient) -> None:
    """Everything works again by itself."""

    async def is_ready() -> bool:
        return (await mesh.http.get("/readyz")).status_code == 200

    await eventually(is_ready, SOON, "a broker that is ready")
    for order in orders:
        assert (await mesh.final(order, SOON))["state"] == "finished"

    async def rings() -> list[str] | None:
        rung = await hooks.post("/hooks/bell", json={}, timeout=30)
        return list(rung.json()["orders"]) if rung.status_code == 202 else None

    for order in await eventually(rings, SOON, "a delivery that is accepted") or []:
        assert (await mesh.final(order, SOON))["state"] == "finished"


async def test_a_mesh_on_one_small_disk_survives_that_it_is_full(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 64 * MIB) as small:
        options, env = up_options(small.path / "data", "e1"), clean_env(tmp_path)
        async with Program.start([*MUSTER, *options], env=env) as program:
            up = parse_ready(await program.line("ready api=", 60), tmp_path, program.pid)
            mesh, server = Client(up.api, up.env, up.api_token), up.plain_url
            async with mesh.http, http_client(up.api) as hooks:
                ran, gate = tmp_path / "ran", tmp_path / "gate"
                work = blueprint("work", script("work", f"echo $MUSTER_ORDER >> {ran}"))
                await mesh.apply(work, BELL, witness("gated", "held", gated="held"), machine("e1", slots=2))
                assert (await mesh.run("work"))["state"] == "finished"
                doctor = await mesh.cli("doctor")
                assert doctor.code == 0
                assert "warning  data folder" in doctor.stdout
                assert "free some space" in doctor.stdout
                running = await mesh.order("gated", inputs={"file": str(tmp_path / "lines"), "gate": str(gate)})
                await eventually(lambda: "tick" in " ".join(words(tmp_path / "lines")), what="a running order")
                small.fill()
                accepted = await fill_up(mesh, "work", "e1")
                await says_why(mesh, "e1", server, hooks)
                next(process for process in program.tree() if process.name() == "nats-server").kill()
                await program.line("nats.waits", stream="err")
                assert NO_SPACE in (await mesh.http.get("/readyz")).text
                gate.touch()
                small.clear()
                await continues(mesh, [running, *accepted], hooks)
            record.check_endings(await record.replay(server), [running, *accepted])
            assert await program.stop(within=30) == 0
            assert "Traceback" not in program.stderr
            assert "bug" not in program.stderr
        small.fill(leave=MIB)
        refused = await muster(*options, env=env)
        assert refused.code == 3
        assert "1.0 MiB are free, and a mesh needs 4.0 MiB to start; free some, or choose another" in refused.stderr
        small.clear()
        async with Program.start([*MUSTER, *options], env=env) as program:
            up = parse_ready(await program.line("ready api=", 60), tmp_path, program.pid)
            assert running[:8] in await up.ok("orders", "--limit", "1000")
            await program.stop()


async def test_a_server_on_a_full_disk_holds_up_all_others_only_while_it_is_full(tmp_path: Path) -> None:
    with small_disk(tmp_path / "server", 64 * MIB) as small:
        async with Roles.started(tmp_path, "e1", lease="30s") as mesh:
            await mesh.apply(blueprint("work", script("work", "echo hello")), BELL)
            async with http_client(await mesh.triggers()) as hooks:
                small.fill()
                accepted = await fill_up(mesh, "work", "e1")
                await says_why(mesh, "e1", mesh.plain_url, hooks)
                small.clear()
                await continues(mesh, accepted, hooks)
            assert "nats.starts_again" in mesh.programs["server"].stderr
            for name in ("broker", "triggers", "e1"):
                assert "Traceback" not in mesh.programs[name].stderr
            assert "did not acknowledge" not in mesh.programs["broker"].stderr
            await mesh.quiet()
            before, after = await mesh.rebuilt()
            assert not record.difference(before, after)


async def one_more_order(data: Path, home: Path) -> tuple[int, int, str]:
    """Start a mesh on a folder and run an order; how many have finished, what output may take, what doctor says."""
    async with Program.start([*MUSTER, *up_options(data, "e1")], env=clean_env(home)) as program:
        up = parse_ready(await program.line("ready api=", 60), home, program.pid)
        await up.ok("run", "hello", "--on", "e1", "--wait")
        listed = msgspec.json.decode(await up.ok("orders", "-o", "json"))
        client = await nats.connect(up.plain_url)
        try:
            most = (await client.jetstream().stream_info(names.OUTPUT_STREAM)).config.max_bytes or 0
        finally:
            await client.close()
        doctor = await up.ok("doctor")
        await program.stop()
        return sum(order["state"] == "finished" for order in listed["items"]), most, doctor


async def test_a_mesh_that_had_much_space_starts_with_little(tmp_path: Path) -> None:
    _, much, _ = await one_more_order(tmp_path / "data", tmp_path)
    with small_disk(tmp_path / "disk", 64 * MIB) as small:
        assert much > 64 * MIB
        shutil.copytree(tmp_path / "data", small.path / "data")
        finished, little, doctor = await one_more_order(small.path / "data", tmp_path)
    assert finished == 2
    assert little < 7 * MIB
    assert f"{little / MIB:.1f} MiB of task output are kept" in " ".join(doctor.split())
