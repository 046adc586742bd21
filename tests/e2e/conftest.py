"""One running mesh for all tests that leave it whole: real processes, started by the command."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.kit.blueprints import machine
from tests.kit.roles import Roles


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Roles]:
    """Server, broker, and an agent for `e1`, which has room for eight orders."""
    async with Roles.started(tmp_path_factory.mktemp("mesh"), "e1", "e2") as mesh:
        await mesh.apply(machine("e1", slots=8))
        yield mesh
