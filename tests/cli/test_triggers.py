"""Triggers in `muster up`: applied, fired by a hook on the same port, by the clock and by hand."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path
from socket import gethostname
from typing import Any

import pytest
from nats.js.api import StreamConfig

from muster.mesh.connection import connect
from muster.mesh.tokens import Token
from tests.kit.blueprints import blueprint, trigger
from tests.kit.http import http_client
from tests.kit.meshes import Mesh, mesh_of_its_own
from tests.kit.waiting import eventually

SECRET = "a secret of ours"
BODY = b'{"ref": "refs/heads/main"}'


async def applied(mesh: Mesh, *manifests: dict[str, Any]) -> None:
    """Create or change objects with the command."""
    await mesh.ok("apply", "-f", "-", stdin=b"\n---\n".join(json.dumps(manifest).encode() for manifest in manifests))


def signed(body: bytes, secret: str = SECRET) -> dict[str, str]:
    """The header that `auth: hmac` looks for."""
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"X-Hub-Signature-256": f"sha256={digest}", "Content-Type": "application/json"}


async def firings(mesh: Mesh, name: str) -> list[dict[str, Any]]:
    """Its firings, newest first."""
    found: list[dict[str, Any]] = json.loads(await mesh.ok("firings", name, "-o", "json"))["items"]
    return found


async def test_a_trigger_s_whole_life_in_muster_up(mesh: Mesh) -> None:
    work = blueprint("up-work", {"name": "nothing", "uses": "noop"}, inputs={"ref": {"default": "none"}})
    there = {"target": {"on": mesh.element}}
    bell = trigger("up-bell", "webhook", "up-work", inputs={"ref": "{{ event.body.ref }}"}, **there)
    tick = trigger("up-tick", "interval", "up-work", with_={"every": "1s"}, **there)
    await applied(mesh, work, bell, tick)
    async with http_client(mesh.api, mesh.api_token) as http:
        answer = await http.post("/hooks/up-bell", content=BODY)
        assert answer.status_code == 202
        order = json.loads(await mesh.ok("get", "order", answer.json()["orders"][0], "-o", "json"))
        assert order["inputs"] == {"ref": "refs/heads/main"}
        await eventually(lambda: firings(mesh, "up-tick"), what="a tick")
        assert "muster_trigger_events_total" in (await http.get("/metrics")).text
        assert 'muster_triggers{provider="interval"} 1.0' in (await http.get("/metrics")).text

        await applied(mesh, {**bell, "enabled": False})
        assert (await http.post("/hooks/up-bell", content=BODY)).status_code == 404
        await applied(mesh, bell)
        assert (await http.post("/hooks/up-bell", content=BODY)).status_code == 202
        await mesh.ok("delete", "trigger", "up-bell")
        assert (await http.post("/hooks/up-bell", content=BODY)).status_code == 404
    shown = await mesh.ok("get", "triggers")
    assert "up-tick" in shown
    assert "interval" in shown
    assert "up-bell" not in shown
    await mesh.ok("delete", "trigger", "up-tick")
    await mesh.ok("delete", "blueprint", "up-work")


@pytest.mark.slow
async def test_a_secret_that_is_not_there_is_reported_to_the_operator_and_not_to_the_sender(tmp_path: Path) -> None:
    async with mesh_of_its_own(tmp_path) as (program, mesh):
        secret = tmp_path / "secret"
        settings = {"auth": "hmac", "secret": {"file": str(secret)}}
        await applied(
            mesh,
            blueprint("work", {"name": "nothing", "uses": "noop"}),
            trigger("guarded", "webhook", with_=settings, target={"on": mesh.element}),
        )
        async with http_client(mesh.api, mesh.api_token) as http:
            answer = await http.post("/hooks/guarded", content=BODY, headers=signed(BODY))
            assert answer.status_code == 503
            assert str(secret) not in answer.text
            found = await mesh.muster("doctor", "-o", "json")
            assert (found.code, f"guarded (file {secret})" in found.stdout) == (1, True), found
            secret.write_text(f"{SECRET}\n")
            wrong = await http.post("/hooks/guarded", content=BODY, headers=signed(BODY, "another"))
            assert wrong.status_code == 401
            right = await http.post("/hooks/guarded", content=BODY, headers=signed(BODY))
            assert right.status_code == 202, right.text
        assert "triggers" in (await mesh.ok("doctor"))
        assert await program.stop() == 0


async def test_firing_by_hand_exits_3_if_no_order_was_made(mesh: Mesh) -> None:
    once = trigger("by-hand", "webhook", target={"on": mesh.element}, with_={"auth": "none"}, cooldown="1h")
    work = blueprint("by-hand-work", {"name": "nothing", "uses": "noop"})
    await applied(mesh, work, {**once, "blueprint": "by-hand-work", "when": "event.body.go"})
    ran = await mesh.muster("fire", "by-hand", "--event", "-", stdin=b'{"go": false}')
    assert (ran.code, "ignored the event" in ran.stdout) == (3, True), ran
    assert (await mesh.muster("fire", "by-hand", "--event", "-", stdin=b'{"go": true}')).code == 0
    ran = await mesh.muster("fire", "by-hand", "--event", "-", stdin=b'{"go": true}')
    assert (ran.code, "skipped" in ran.stdout, "cooldown" in ran.stdout) == (3, True, True), ran
    await mesh.ok("delete", "trigger", "by-hand")
    await mesh.ok("delete", "blueprint", "by-hand-work")


@pytest.mark.slow
async def test_a_trigger_that_cannot_listen_says_why_until_it_can(tmp_path: Path) -> None:
    async with mesh_of_its_own(tmp_path) as (program, mesh):
        settings = {"subject": "no.>", "stream": "NOPE"}
        await applied(
            mesh,
            blueprint("work", {"name": "nothing", "uses": "noop"}),
            trigger("deaf", "nats", with_=settings, target={"on": mesh.element}),
            trigger("well", "nats", with_={"subject": "yes.>"}, target={"on": mesh.element}),
        )
        why = "there is no stream 'NOPE'"

        async def trouble() -> str | None:
            found: str | None = json.loads(await mesh.ok("get", "trigger", "deaf", "-o", "json"))["trouble"]
            return found

        reported = await eventually(trouble, what="the reason")
        assert reported is not None
        assert why in reported
        assert f"(on {gethostname()})" in reported
        assert why in await mesh.ok("describe", "trigger", "deaf")
        rows = {row.split()[0]: row for row in (await mesh.ok("get", "triggers")).splitlines()}
        assert ("failing" in rows["deaf"], "enabled" in rows["well"]) == (True, True)
        found = await mesh.muster("doctor", "-o", "json")
        assert (found.code, f"deaf: {why}" in found.stdout) == (1, True), found
        async with connect(mesh.nats, name="test", token=Token(mesh.nats_token, "here")) as client:
            await client.jetstream().add_stream(StreamConfig(name="NOPE", subjects=["no.>"]))

        async def well() -> bool:
            return await trouble() is None

        await eventually(well, within=40, what="it listens")
        assert why not in await mesh.ok("doctor")
        assert await program.stop() == 0
