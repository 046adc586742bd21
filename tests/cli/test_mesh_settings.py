"""The settings of a mesh on the command line."""

from __future__ import annotations

from tests.kit.meshes import Mesh


async def test_the_settings_are_shown_and_cannot_be_deleted(mesh: Mesh) -> None:
    shown = await mesh.ok("get", "mesh")
    assert "LEASE" in shown
    assert "30s" in shown
    described = await mesh.ok("describe", "mesh", "mesh")
    assert "retention" in described
    ran = await mesh.muster("delete", "mesh", "mesh")
    assert ran.code == 3
    assert "change it with `muster apply` instead" in ran.stderr
