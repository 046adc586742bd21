"""`make example-ci`, whole: a GitLab, an artifact server, runners, and what happens when somebody pushes."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.kit.processes import Program, clean_env

pytestmark = pytest.mark.slow

RUN = (sys.executable, "-m", "examples.ci.run")


@pytest.mark.timeout(120)
@pytest.mark.skipif(shutil.which("git") is None, reason="the example needs git")
async def test_what_is_pushed_is_built_by_pooled_runners(tmp_path: Path) -> None:
    async with Program.start(RUN, env=clean_env(tmp_path, TMPDIR=str(tmp_path))) as program:
        code = await program.ended(100)
    assert code == 0, program
    assert "✔ all 4 processes ended cleanly" in program.stdout
    assert not list(tmp_path.glob("muster-ci-*"))


async def test_without_git_it_says_what_it_needs(tmp_path: Path) -> None:
    async with Program.start(RUN, env=clean_env(tmp_path, TMPDIR=str(tmp_path), PATH=str(tmp_path))) as program:
        code = await program.ended()
    assert code == 1
    assert "this example needs git" in program.stderr
    assert "Traceback" not in program.stderr
