"""The small triggers of examples/, for real: a message, a failure, a calendar's rule."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus
from pathlib import Path

import nats
import pytest
import pytest_asyncio

from examples.ci.web import Handler, Server
from tests.kit.meshes import Mesh, mesh_of_its_own
from tests.kit.processes import ROOT
from tests.kit.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

TRIGGERS = ROOT / "examples" / "triggers"
SCAN = b"a page that was scanned"


class World(Server):
    """Has a file to fetch, and a chat that listens."""

    def __init__(self) -> None:
        super().__init__(Spoken)
        self.said: list[str] = []


class Spoken(Handler):
    """Its answers."""

    server: World

    def do_GET(self) -> None:  # noqa: N802 - http.server's name
        self.answer(HTTPStatus.OK, SCAN)

    def do_POST(self) -> None:  # noqa: N802 - http.server's name
        self.server.said.append(json.loads(self.body(10_000))["text"])
        self.answer(HTTPStatus.OK)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """Everything outside of the mesh."""
    with World() as world:
        yield world


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def examples(tmp_path_factory: pytest.TempPathFactory, world: World) -> AsyncIterator[Mesh]:
    """A mesh with all of them, and one worker."""
    home = tmp_path_factory.mktemp("examples")
    params = {"chat": f"{world.url}/hook", "folder": str(home / "imported")}
    worker = {"kind": "machine", "name": "testbox", "labels": {"role": "worker"}, "params": params}
    async with mesh_of_its_own(home) as (program, mesh):
        await mesh.ok("apply", "-f", "-", stdin=json.dumps(worker).encode())
        await mesh.ok("apply", "-f", str(TRIGGERS))
        yield mesh
        await program.stop()


async def test_what_a_message_names_is_imported_by_a_worker(examples: Mesh, world: World) -> None:
    digest = hashlib.sha256(SCAN).hexdigest()
    message = json.dumps({"url": f"{world.url}/scan.tif", "sha256": digest, "size": len(SCAN)}).encode()
    place = Path(examples.data).parent / "imported" / digest
    client = await nats.connect(examples.nats, token=examples.nats_token)
    try:

        async def arrived() -> bool:
            await client.publish(
                "files.arrived.scans", message
            )  # what a core subject says before somebody listens is gone
            return place.exists()

        await eventually(arrived, 20, "a file that was imported")
    finally:
        await client.close()
    assert place.read_bytes() == SCAN


async def test_a_failure_is_reported_to_people(examples: Mesh, world: World) -> None:
    fails = {"kind": "blueprint", "name": "fails", "tasks": [{"name": "look", "run": "exit 3"}]}
    await examples.ok("apply", "-f", "-", stdin=json.dumps(fails).encode())
    assert (await examples.muster("run", "fails", "--on", "testbox", "--wait")).code == 1
    await eventually(lambda: world.said, 20, "words in the chat")
    assert world.said == ["fails failed on testbox: task 'look' failed: exit code 3"]


async def test_maintenance_is_at_night_and_not_at_the_turn_of_the_year(examples: Mesh) -> None:
    shown = json.loads(await examples.ok("next", "maintenance", "-n", "24", "-o", "json"))
    local = [due["local"] for due in shown["items"]]
    assert all(time[11:19] == "03:00:00" and 8 <= int(time[8:10]) <= 14 for time in local), local
    assert {time[19:] for time in local} == {"+01:00", "+02:00"}
    assert not {"2026-12-08", "2027-01-12"} & {time[:10] for time in local}
