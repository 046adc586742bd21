"""Every manifest in examples/ can be applied."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.meshes import Mesh
from tests.kit.processes import ROOT

EXAMPLES = ROOT / "examples"
FOLDERS = sorted({file.parent for file in EXAMPLES.rglob("*.yaml")})


@pytest.mark.parametrize("folder", [pytest.param(folder, id=str(folder.relative_to(EXAMPLES))) for folder in FOLDERS])
async def test_the_manifests_of_an_example_are_valid_together(mesh: Mesh, folder: Path) -> None:
    shown = await mesh.ok("apply", "-f", str(folder), "--dry-run")
    assert "created" in shown


@pytest.mark.parametrize("file", sorted((EXAMPLES / "triggers").glob("*.yaml")), ids=lambda file: file.stem)
async def test_each_of_the_small_ones_stands_alone(mesh: Mesh, file: Path) -> None:
    assert "trigger" in await mesh.ok("apply", "-f", str(file), "--dry-run")
