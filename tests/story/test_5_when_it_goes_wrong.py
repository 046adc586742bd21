"""5. A failed task is retried; a failed order continues where it failed, after a fix."""

from __future__ import annotations

import json
from pathlib import Path

from tests.kit.meshes import Mesh
from tests.story.conftest import Apply, Say

BLUEPRINT = """
    kind: blueprint
    name: deploy
    inputs: {folder: {type: string}}
    tasks:
      - name: fetch
        run: echo fetched >> "$INPUT_FOLDER/log"
      - name: install
        retry: {attempts: 2, delay: 50ms}
        run: |
          echo "try $MUSTER_ATTEMPT" >> "$INPUT_FOLDER/log"
          cat "$INPUT_FOLDER/licence"
    on_failure:
      - {name: report, run: 'echo "please check $MUSTER_ORDER"'}
    """


async def test_a_failed_order_is_explained_fixed_and_retried(
    apply: Apply, muster: Say, mesh: Mesh, tmp_path: Path
) -> None:
    await apply(BLUEPRINT)
    ran = await mesh.muster("run", "deploy", "--on", mesh.element, "-i", f"folder={tmp_path}", "--wait", "-o", "json")
    assert ran.code == 1
    order = json.loads(ran.stdout)["orders"][0]["id"]
    explained = await muster(f"explain {order}")
    assert "task 'install' failed: exit code 1" in explained
    assert "licence: No such file" in await muster(f"logs {order} --job install")

    (tmp_path / "licence").write_text("granted\n")
    await muster(f"retry {order}")
    assert "granted" in await muster(f"logs {order} --follow")
    assert (tmp_path / "log").read_text().split("\n")[:-1] == ["fetched", "try 1", "try 2", "try 1"]
    assert "retried" in await muster(f"explain {order}")


async def test_a_running_order_is_cancelled(apply: Apply, muster: Say, mesh: Mesh) -> None:
    await apply("{kind: blueprint, name: endless, tasks: [{name: sleep, run: echo started; sleep 300}]}")
    async with mesh.running("run", "endless", "--on", mesh.element, "--follow") as watching:
        await watching.line("started")
        (running,) = json.loads(await muster("orders --blueprint endless --state running -o json"))["items"]
        await muster(f"cancel {running['id']}")
        assert await watching.ended() == 1
    assert "cancelled" in watching.stdout
