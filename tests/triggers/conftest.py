"""What tests of triggers may ask for."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.triggers.hook_server import SECRET, Served, serving


@pytest_asyncio.fixture
async def served(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    """The hooks, with HOOK_SECRET in the environment."""
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    async with serving(body_timeout=0.5) as found:
        yield found
