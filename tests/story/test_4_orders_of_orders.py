"""4. An order may make others, wait for them, and continue with what they found."""

from __future__ import annotations

import json

from tests.kit.meshes import Mesh
from tests.story.conftest import Apply, Say

BLUEPRINTS = """
    kind: blueprint
    name: measure
    inputs: {what: {type: string}}
    tasks: [{name: measure, run: 'echo "length=${#INPUT_WHAT}" >> "$MUSTER_OUTPUTS"'}]
    ---
    kind: blueprint
    name: compare
    tasks:
      - {name: short, uses: order, with: {blueprint: measure, inputs: {what: ab}}}
      - {name: long, uses: order, with: {blueprint: measure, inputs: {what: abcdef}}}
      - name: show
        when: tasks.long.outputs.length > tasks.short.outputs.length
        run: echo "verdict=longer" >> "$MUSTER_OUTPUTS"
    """


async def test_a_parent_waits_for_its_children_and_reads_their_outputs(apply: Apply, muster: Say, mesh: Mesh) -> None:
    await apply(BLUEPRINTS)
    order = json.loads(await muster(f"run compare --on {mesh.element} --wait -o json"))["orders"][0]
    assert order["outputs"]["verdict"] == "longer"
    assert [child["state"] for child in order["children"].values()] == ["finished", "finished"]
