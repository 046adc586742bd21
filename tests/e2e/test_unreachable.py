"""When there is no NATS server: words, and exit code 4 (a broker's case is in tests/cli/test_roles.py)."""

from __future__ import annotations

import pytest

from tests.kit.processes import Program

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_an_agent_without_a_nats_server_gives_up_with_words(lonely_agent: Program) -> None:
    assert await lonely_agent.ended(within=45) == 4
    assert "no NATS server answers at nats://127.0.0.1:" in lonely_agent.stderr
    assert "`muster server`" in lonely_agent.stderr
    assert "Traceback" not in lonely_agent.stderr
