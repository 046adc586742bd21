"""The blueprint that obeys does as it is asked; other tests rely on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from muster.blueprints.definition import Blueprint
from muster.blueprints.manifest import load
from muster.blueprints.task import Done, Failed, Outcome
from tests.blueprints.context import FakeContext, run_blueprint


async def obey(tmp_path: Path, how: str, **inputs: Any) -> tuple[Outcome, FakeContext]:
    (one,) = load(Path(__file__).with_name("obey.yaml").read_text())
    assert isinstance(one.manifest, Blueprint)
    outcomes, context = await run_blueprint(one.manifest, tmp_path / "work", how=how, **inputs)
    (outcome,) = outcomes.values()
    return outcome, context


@pytest.mark.parametrize("how", ["ok", "fork", "binary"])
async def test_it_ends_well(tmp_path: Path, how: str) -> None:
    outcome, context = await obey(tmp_path, how, text="there")
    assert isinstance(outcome, Done), context.output


async def test_it_fails_and_dies_as_asked(tmp_path: Path) -> None:
    assert (await obey(tmp_path, "fail", code=7))[0] == Failed(error="exit code 7", exit_code=7)
    outcome, _ = await obey(tmp_path, "die")
    assert isinstance(outcome, Failed)
    assert outcome.exit_code == -9


async def test_it_floods_as_much_as_asked(tmp_path: Path) -> None:
    _, context = await obey(tmp_path, "flood", megabytes=2)
    assert len(context.output) >= 2 * 1024 * 1024


async def test_it_appends_its_start_and_end(tmp_path: Path) -> None:
    await obey(tmp_path, "append", file=str(tmp_path / "log"), seconds=0)
    lines = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    assert [line[:2] for line in lines] == [["start", "1"], ["end", "1"]]
    assert float(lines[0][2]) <= float(lines[1][2])


async def test_it_fails_its_first_tries(tmp_path: Path) -> None:
    assert isinstance((await obey(tmp_path / "one", "retry", tries=1))[0], Failed)
    assert isinstance((await obey(tmp_path / "two", "retry", tries=0))[0], Done)


async def test_it_says_the_outputs_it_is_given(tmp_path: Path) -> None:
    outcome, _ = await obey(tmp_path, "outputs", text='{"a": [1]}')
    assert isinstance(outcome, Done)
    assert outcome.outputs == {"a": [1]}
