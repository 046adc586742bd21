"""Trigger providers of another package: checked at apply, run by the trigger service, reported when they fail."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.kit.blueprints import blueprint, trigger
from tests.kit.packages import installed
from tests.kit.processes import ROOT
from tests.kit.roles import Roles

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

CODE = '''\
"""Lines of text that somebody sends over TCP."""

import asyncio

from muster.blueprints.provider import Happening, Source
from muster.mesh.errors import Problem


class Lines(Source):
    """Fires for each line."""

    host: str = "127.0.0.1"
    port: int

    def problems(self):
        if not 0 < self.port < 65536:
            yield Problem(path="port", message="a port is between 1 and 65535")

    async def run(self, mesh):
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            while line := await reader.readline():
                text = line.decode().strip()
                reply = await mesh.fire(Happening(event={"provider": "lines", "kind": "line", "body": text}, key=text))
                writer.write(f"{reply.firing} {reply.duplicate}\\n".encode())
        finally:
            writer.close()
'''


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, built and installed in a folder of its own."""
    return installed(tmp_path_factory, "muster-lines", "muster.triggers", 'lines = "muster_lines:Lines"', CODE)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(site: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Roles]:
    """A mesh whose broker and trigger service have the package."""
    async with Roles.started(tmp_path_factory.mktemp("mesh"), path=f"{ROOT}{os.pathsep}{site}") as mesh:
        await mesh.triggers()
        await mesh.apply(
            {"kind": "machine", "name": "e1"},
            blueprint("work", {"name": "nothing", "uses": "noop"}, inputs={"line": {"type": "string"}}),
        )
        yield mesh


class Talker:
    """A server that sends lines to whoever connects."""

    def __init__(self) -> None:
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter
        self.connected = asyncio.Event()

    async def met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Somebody connects."""
        self.reader, self.writer = reader, writer
        self.connected.set()

    async def say(self, line: str) -> list[str]:
        """Send a line; what was answered."""
        self.writer.write(f"{line}\n".encode())
        return (await asyncio.wait_for(self.reader.readline(), 10)).decode().split()

    async def hang_up(self) -> None:
        """End the connection, and wait for the next one."""
        self.connected.clear()
        self.writer.close()
        await asyncio.wait_for(self.connected.wait(), 10)


async def test_a_third_partys_provider_is_checked_run_and_started_again_when_it_ends(mesh: Roles) -> None:
    wrong = json.dumps(trigger("tcp", "lines", with_={"port": 0})).encode()
    shown = await mesh.cli("apply", "-f", "-", stdin=wrong)
    assert (shown.code, "with.port: a port is between" in shown.stderr) == (2, True), shown
    talker = Talker()
    async with await asyncio.start_server(talker.met, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        inputs = {"line": "{{ event.body }}"}
        await mesh.apply(trigger("tcp", "lines", with_={"port": port}, inputs=inputs))
        await asyncio.wait_for(talker.connected.wait(), 10)
        firing, duplicate = await talker.say("one")
        assert duplicate == "False"
        assert await talker.say("one") == [firing, "True"]
        await talker.hang_up()
        await talker.say("two")
        found = await mesh.firings("tcp")
        assert [it["event"]["body"] for it in found] == ["one", "two"]
        assert (await mesh.get(f"orders/{found[1]['orders'][0]}"))["inputs"] == {"line": "two"}
        await mesh.programs["triggers"].line("it ended without an error", stream="err")
        await mesh.http.delete("/api/v1/triggers/tcp")
        assert await asyncio.wait_for(talker.reader.read(), 10) == b""


async def test_a_service_without_the_package_leaves_the_trigger_to_others(mesh: Roles) -> None:
    mesh.env["PYTHONPATH"] = str(ROOT)
    await mesh.triggers("triggers2")
    await mesh.apply(trigger("tcp", "lines", with_={"port": 1}))
    await mesh.programs["triggers2"].line("is not installed where this trigger service runs", stream="err")
    await mesh.programs["triggers"].line("ConnectionRefusedError", stream="err")
