"""A kind of task from somebody else's package: found by its entry point, checked at apply, run by an agent."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.kit.packages import installed
from tests.kit.processes import ROOT
from tests.kit.roles import Roles

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

CODE = '''\
"""A kind of task."""

from muster.blueprints.task import Done, Failed
from muster.mesh.errors import Problem


class Shout:
    """Says it loudly."""

    def check(self, task, path):
        if "text" not in task.with_:
            yield Problem(path=f"{path}.with", message="say what to shout: `text`")

    async def run(self, task, context):
        text = task.with_["text"].upper()
        if text == "BUG":
            raise RuntimeError("a bug of the plug-in")
        await context.write(f"{text}!".encode())
        return Failed(error="it is hoarse") if text == "HOARSE" else Done(outputs={"shouted": text})
'''


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, built and installed in a folder of its own."""
    return installed(tmp_path_factory, "muster-shout", "muster.tasks", 'shout = "muster_shout:Shout"', CODE)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shouting(site: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Roles]:
    """A mesh whose broker and agent have the package."""
    async with Roles.started(tmp_path_factory.mktemp("mesh"), path=f"{ROOT}{os.pathsep}{site}", lease="30s") as mesh:
        await mesh.agent("e1")
        yield mesh


async def test_a_third_partys_kind_is_checked_when_applied_and_run_by_an_agent(shouting: Roles) -> None:
    bad = await shouting.cli("apply", "-f", "-", stdin=b"{kind: blueprint, name: s, tasks: [{name: t, uses: shout}]}")
    assert bad.code == 2
    assert "say what to shout" in bad.stderr
    task = b"{name: t, uses: shout, with: {text: '{{ inputs.what }}'}}"
    text = b"{kind: blueprint, name: s, inputs: {what: {}}, tasks: [" + task + b"]}"
    assert (await shouting.cli("apply", "-f", "-", stdin=text)).code == 0
    order = await shouting.run("s", inputs={"what": "hello"})
    assert (order["state"], order["outputs"]) == ("finished", {"shouted": "HELLO"})
    assert await shouting.output(order["id"]) == b"HELLO!"
    hoarse = await shouting.run("s", inputs={"what": "hoarse"})
    assert (hoarse["state"], hoarse["reason"]) == ("failed", "task 't' failed: it is hoarse")
    bug = await shouting.run("s", inputs={"what": "bug"})
    assert "bug in task kind 'shout'" in bug["reason"]
    assert (await shouting.run("s", inputs={"what": "again"}))["state"] == "finished"
