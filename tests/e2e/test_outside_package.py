"""The package of CONTRIBUTING's page "Add a kind", installed: one kind of each sort, used over every surface."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nats
import pytest
import pytest_asyncio

from tests.docs.markdown import blocks
from tests.kit.blueprints import blueprint, trigger
from tests.kit.packages import install
from tests.kit.processes import ROOT, Program
from tests.kit.roles import Roles
from tests.kit.waiting import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]

PAGE = ROOT / "CONTRIBUTING.md"
PACKAGE = "muster-outside"
ROBOT = {"kind": "robot", "name": "r2d2", "legs": 3, "labels": {"role": "helper"}}
CLUSTER = {"kind": "cluster", "name": "droids", "members": ["r2d2"]}
GREET = blueprint(
    "greet", {"name": "say", "uses": "say", "with": {"text": "hello {{ inputs.who }}"}}, inputs={"who": {}}
)
DOOR = trigger(
    "door",
    "doorbell",
    "greet",
    with_={"unwelcome": ["cold"]},
    target={"where": "element.kind == 'robot' && element.labels.role == 'helper'"},
    inputs={"who": "{{ event.body.visitor }}"},
)
GOAL = {"kind": "goal", "name": "hellos", "blueprint": "greet", "orders": 2}
EVERYTHING = (ROBOT, CLUSTER, GREET, DOOR, GOAL)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the page's package is installed."""
    folder, target = tmp_path_factory.mktemp("page"), tmp_path_factory.mktemp("site")
    for block in blocks(PAGE):
        name = block.options.get("file", "")
        if name.startswith(PACKAGE):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(block.text)
    install(folder / PACKAGE, target)
    return target


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(site: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Roles]:
    """A mesh whose processes have the package, with all that it adds applied by the command."""
    async with Roles.started(tmp_path_factory.mktemp("mesh"), path=f"{ROOT}{os.pathsep}{site}", lease="30s") as mesh:
        text = json.dumps(EVERYTHING).encode()
        applied = await mesh.cli("apply", "-f", "-", stdin=text)
        assert applied.code == 0, applied.stderr
        await mesh.agent("r2d2")
        await mesh.triggers()
        yield mesh


async def over_nats(mesh: Roles, subject: str, body: Any) -> Any:
    """What the mesh answers to a plain NATS client."""
    client = await nats.connect(mesh.plain_url)
    try:
        return json.loads((await client.request(subject, json.dumps(body).encode(), timeout=10)).data)
    finally:
        await client.close()


async def test_its_manifests_are_checked_like_all_others(mesh: Roles) -> None:
    wrong = (
        (GREET | {"tasks": [{"name": "say", "uses": "say", "with": {"txt": "x"}}]}, "did you mean 'text'"),
        (DOOR | {"with": {"unwelcome": [""]}}, "with.unwelcome: a visitor has a name"),
        (ROBOT | {"legs": "two"}, "legs: expected a whole number"),
        (CLUSTER | {"members": ["r2d3"]}, "there is no element 'r2d3' (did you mean 'r2d2'?)"),
        (DOOR | {"target": {"on": "r2d3"}}, "there is no element 'r2d3' (did you mean 'r2d2'?)"),
        ({"kind": "machine", "name": "r2d2"}, "there is already a robot 'r2d2'"),
        (GOAL | {"blueprint": "gret"}, "there is no blueprint 'gret'"),
    )
    for manifest, words in wrong:
        refused = await mesh.cli("apply", "-f", "-", stdin=json.dumps(manifest).encode())
        assert (refused.code, words in refused.stderr) == (2, True), refused.stderr


async def test_its_element_and_task_are_used_over_every_surface(mesh: Roles) -> None:
    made = await mesh.cli("run", "greet", "--on", "r2d2", "-i", "who=cli", "--follow")
    assert (made.code, "hello cli" in made.stdout) == (0, True), made
    order = await mesh.run("greet", on="r2d2", inputs={"who": "http"})
    assert (order["state"], order["outputs"]) == ("finished", {"said": "hello http"})
    body = {"blueprint": "greet", "where": "element.kind == 'robot'", "inputs": {"who": "nats"}}
    (order,) = (await over_nats(mesh, "muster.api.orders.create", body))["orders"]
    assert (await mesh.final(order["id"]))["outputs"] == {"said": "hello nats"}


async def test_its_object_keeps_state_by_its_rule(mesh: Roles) -> None:
    goal = {"kind": "goal", "name": "two", "blueprint": "greet", "orders": 2}
    await mesh.apply(goal)
    await mesh.run("greet", on="r2d2", inputs={"who": "one"})
    found = await mesh.get("goals/two")
    assert (found["finished"], found["reached_at"]) == (1, None)
    refused = await mesh.cli("delete", "goal", "two")
    assert (refused.code, "not reached: 1 orders have finished" in refused.stderr) == (3, True), refused
    needed = await over_nats(mesh, "muster.api.objects.delete", {"kind": "blueprint", "name": "greet"})
    assert "goal two" in needed["error"]["detail"]
    await mesh.run("greet", on="r2d2", inputs={"who": "two"})
    asked = await over_nats(mesh, "muster.api.objects.get", {"kind": "goal", "name": "two"})
    assert (asked["finished"], asked["reached_at"] is None) == (2, False)
    assert "finished" in (await mesh.cli("describe", "goal", "two")).stdout
    assert (await mesh.cli("delete", "goal", "two")).code == 0
    await mesh.apply(goal)
    assert (await mesh.get("goals/two"))["finished"] == 0


async def test_its_element_is_a_noun_of_the_command(mesh: Roles) -> None:
    listed = await mesh.cli("get", "robots", "--where", "element.online")
    assert "r2d2" in listed.stdout, listed
    assert "legs" in (await mesh.cli("describe", "robot", "r2d2")).stdout
    assert "robot\tA machine that moves." in (await mesh.cli("__complete", "get", "")).stdout.splitlines()
    assert "r2d2" in (await mesh.cli("__complete", "drain", "")).stdout.splitlines()
    assert (await mesh.cli("drain", "r2d2", "--wait")).code == 0
    assert "drained" in (await mesh.cli("get", "element", "r2d2")).stdout
    assert (await mesh.cli("undrain", "r2d2")).code == 0


async def test_its_element_is_read_over_http_and_nats(mesh: Roles) -> None:
    assert (await mesh.get("robots/r2d2"))["legs"] == 3
    assert [it["name"] for it in (await mesh.get("elements"))["items"]] == ["droids", "r2d2"]
    assert (await over_nats(mesh, "muster.api.objects.get", {"kind": "robot", "name": "r2d2"}))["online"]
    kinds = {it["name"]: it["is_element"] for it in (await mesh.get("kinds"))["items"]}
    assert kinds["robot"]


async def test_its_trigger_is_used_over_every_surface(mesh: Roles) -> None:
    rung = await mesh.http.post(f"{mesh.hooks}/hooks/door", content=b"anna")
    assert rung.status_code == 202, rung.text
    assert (await mesh.final(rung.json()["orders"][0]))["outputs"] == {"said": "hello anna"}
    assert (await mesh.http.post(f"{mesh.hooks}/hooks/door", content=b"cold")).json()[
        "ignored"
    ] == "cold is not welcome"
    event = json.dumps({"visitor": "bert"}).encode()
    fired = await mesh.cli("fire", "door", "--event", "-", "--wait", stdin=event)
    assert (fired.code, "finished" in fired.stdout) == (0, True), fired
    assert "fired" in (await mesh.cli("firings", "door")).stdout
    found = await over_nats(mesh, "muster.api.firings.list", {"trigger": "door"})
    assert len(found["items"]) == 2


async def test_the_reference_is_generated_with_its_kinds(mesh: Roles, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "tests.docs.generated", str(tmp_path)]
    async with Program.start(argv, env=mesh.env, cwd=ROOT) as program:
        assert await program.ended() == 0, program.stderr
    kinds, api = (tmp_path / "kinds.md").read_text(), (tmp_path / "api.md").read_text()
    assert "| `robot` | A machine that moves. | yes |" in kinds
    assert "| `goal` | A number of orders of a blueprint that are to finish. |" in kinds
    assert "| `say` | Prints a line. |" in kinds
    assert "| `doorbell` | Fires for each visitor, except those that are not welcome. | hook |" in kinds
    assert "`PUT /api/v1/robots/{name}`" in api


async def test_it_survives_a_replay(mesh: Roles) -> None:
    counted = (await mesh.get("goals/hellos"))["finished"]
    assert counted >= 2
    await mesh.stop("r2d2")

    async def offline() -> bool:
        return not (await mesh.get("robots/r2d2"))["online"]

    await eventually(offline, what="the robot's agent said good-bye")
    before, after = await mesh.rebuilt()
    assert after == before
    await mesh.start("broker")
    assert (await mesh.get("robots/r2d2"))["legs"] == 3
    assert (await mesh.get("clusters/droids"))["members"] == ["r2d2"]
    assert (await mesh.get("goals/hellos"))["finished"] == counted
    await mesh.start("r2d2")
    assert (await mesh.run("greet", on="r2d2", inputs={"who": "again"}))["outputs"] == {"said": "hello again"}
    rung = await mesh.http.post(f"{mesh.hooks}/hooks/door", content=b"carl")
    assert (await mesh.final(rung.json()["orders"][0]))["outputs"] == {"said": "hello carl"}
