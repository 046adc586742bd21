"""2. Mistakes are reported before anything runs: all of them, where, and how to fix them."""

from __future__ import annotations

from tests.kit.meshes import Mesh
from tests.story.conftest import Apply

BLUEPRINT = """
    kind: blueprint
    name: resize
    inputs:
      size: {type: integer, minimum: 1, maximum: 8}
      speed: {enum: [slow, fast], default: slow}
    tasks: [{name: resize, run: 'echo "$INPUT_SIZE $INPUT_SPEED"'}]
    """


async def test_wrong_inputs_make_no_order(apply: Apply, mesh: Mesh) -> None:
    await apply(BLUEPRINT)
    ran = await mesh.muster("run", "resize", "--on", mesh.element, "-i", "size=9", "-i", "sped=fast")
    assert ran.code == 2
    assert "inputs.size" in ran.stderr
    assert "speed" in ran.stderr  # did you mean


async def test_a_wrong_manifest_is_refused_with_its_line(mesh: Mesh) -> None:
    ran = await mesh.muster("apply", "-f", "-", stdin=b"kind: blueprint\nname: x\ntasks:\n  - name: a\n    rum: echo\n")
    assert ran.code == 2
    assert "<stdin>:5" in ran.stderr
    assert "run" in ran.stderr


async def test_a_dry_run_shows_what_would_be_done(apply: Apply, mesh: Mesh) -> None:
    await apply(BLUEPRINT)
    shown = await mesh.ok("run", "resize", "--on", mesh.element, "-i", "size=4", "--dry-run")
    assert "size = 4" in shown
    assert "slow" in shown
