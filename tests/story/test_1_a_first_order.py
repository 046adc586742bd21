"""1. Apply a blueprint, run it, and read the record."""

from __future__ import annotations

import json

from tests.kit.meshes import Mesh
from tests.story.conftest import Apply, Say

BLUEPRINT = """
    kind: blueprint
    name: disk
    summary: How full is a file system?
    inputs:
      path: {type: string, default: /, title: Which one}
    tasks:
      - name: look
        run: |
          df -- "$INPUT_PATH"
          echo "path=$INPUT_PATH" >> "$MUSTER_OUTPUTS"
    """


async def test_a_blueprint_is_laid_and_found_again(apply: Apply, muster: Say) -> None:
    assert "created" in await apply(BLUEPRINT)
    assert "unchanged" in await apply(BLUEPRINT)
    assert "disk" in await muster("get blueprints")
    assert "How full is a file system?" in await muster("describe blueprint disk")


async def test_an_order_runs_on_this_machine_and_is_watched(apply: Apply, muster: Say, mesh: Mesh) -> None:
    await apply(BLUEPRINT)
    shown = await muster(f"run disk --on {mesh.element} -i path=/proc --follow")
    assert "Filesystem" in shown
    assert "finished" in shown


async def test_the_order_is_on_the_record(apply: Apply, muster: Say, mesh: Mesh) -> None:
    await apply(BLUEPRINT)
    made = json.loads(await muster(f"run disk --on {mesh.element} --wait -o json"))["orders"][0]
    assert made["outputs"] == {"path": "/"}
    short = made["id"][:6]  # as much of an id as no other order has
    assert made["id"][:10] in await muster("orders --blueprint disk")
    assert "Filesystem" in await muster(f"logs {short}")
    assert "blueprint" in await muster(f"explain {short}")  # where the input came from
