"""What a running broker carries with it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.kit.roles import Roles

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel reports which libraries a process has mapped")
async def test_a_broker_loads_no_models_but_msgspecs(mesh: Roles) -> None:
    mapped = Path(f"/proc/{mesh.programs['broker'].pid}/maps").read_text()
    assert "msgspec" in mapped
    assert "pydantic" not in mapped
