"""One running mesh for each file of tests: real processes, started by the command."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.kit.roles import Roles


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> AsyncIterator[Roles]:
    """Server, broker, and an agent for each element in the file's `AGENTS` (default: `e1`)."""
    agents = getattr(request.module, "AGENTS", ("e1",))
    async with Roles.started(tmp_path_factory.mktemp("mesh"), *agents) as mesh:
        yield mesh
