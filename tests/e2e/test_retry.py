"""`retry` lets an ended order continue where it went wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.blueprints import blueprint, script, words
from tests.kit.roles import Roles

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_retried_order_goes_on_at_the_task_that_failed(mesh: Roles, tmp_path: Path) -> None:
    lines, fixed = tmp_path / "lines", tmp_path / "fixed"
    say = 'echo "$MUSTER_JOB" >> "$INPUT_FILE"'
    await mesh.apply(
        blueprint(
            "mendable",
            script("first", say),
            script("second", f"{say}; test -e {fixed}"),
            script("third", say),
            on_failure=[script("sorry", say)],
            always=[script("tidy", say)],
            inputs={"file": {"type": "string"}},
        )
    )
    order = await mesh.order("mendable", inputs={"file": str(lines)})
    assert (await mesh.final(order))["state"] == "failed"
    assert words(lines) == ["first", "second", "sorry", "tidy"]
    fixed.touch()
    await mesh.post(f"/orders/{order}/retry")
    found = await mesh.final(order)
    assert found["state"] == "finished", found
    assert words(lines)[4:] == ["second", "third", "tidy"]
