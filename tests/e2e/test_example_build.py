"""The blueprint of examples/ci, when a runner dies in the middle of a build."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from examples.ci.artifacts import Artifacts
from examples.ci.git import Developer
from examples.ci.gitlab import GitLab
from tests.kit.processes import ROOT
from tests.kit.roles import Roles
from tests.kit.waiting import eventually

pytestmark = pytest.mark.slow

CI = ROOT / "examples" / "ci"

WAITS = """
import pathlib, time, unittest

class Gate(unittest.TestCase):
    def test_waits(self):
        with open({started!r}, "a") as file:
            file.write("started\\n")
        while not pathlib.Path({gate!r}).exists():
            time.sleep(0.02)
"""


@pytest.mark.skipif(shutil.which("git") is None, reason="the example needs git")
async def test_a_build_goes_on_at_another_runner_when_one_dies(tmp_path: Path) -> None:
    started, gate = tmp_path / "started", tmp_path / "gate"
    with GitLab(tmp_path / "gitlab", token="t", hook_token="h") as gitlab, Artifacts(tmp_path / "kept", "a") as kept:
        developer = Developer.starts(CI / "package", tmp_path / "clone", gitlab.git_url, "t")
        (developer.folder / "tests" / "test_gate.py").write_text(WAITS.format(started=str(started), gate=str(gate)))
        commit = developer.commit("Wait for a gate")
        developer.push("main")
        inputs = {"project": 15, "repository": gitlab.git_url, "commit": commit, "ref": "refs/heads/main"}
        places = {"gitlab": gitlab.url, "artifacts": kept.url}
        async with Roles.started(tmp_path / "mesh") as mesh:
            mesh.env |= {"GITLAB_TOKEN": "t", "ARTIFACT_TOKEN": "a", "MUSTER_PASS_ENV": "GITLAB_TOKEN,ARTIFACT_TOKEN"}
            await mesh.apply(*yaml.safe_load_all((CI / "manifests" / "build.yaml").read_text()))
            for name in ("r1", "r2"):
                await mesh.agent(name)
            await mesh.apply({"kind": "pool", "name": "runners", "where": 'element.kind == "machine"'})
            order = await mesh.order("build", pool="runners", inputs=inputs | places)
            await eventually(started.exists, 20, "the tests started")
            first = (await mesh.get(f"orders/{order}"))["element"]
            await mesh.kill(first)
            gate.touch()
            ended = await mesh.final(order)
        assert (ended["state"], ended["attempt"]) == ("finished", 2)
        assert ended["element"] != first
        assert started.read_text() == "started\n" * 2
        assert gitlab.statuses[commit] == ["running", "success"]
        assert kept.names == [f"timespan/{commit}/timespan-{commit[:12]}.pyz"]
