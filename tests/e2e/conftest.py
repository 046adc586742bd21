"""One running mesh for all tests that leave it whole: real processes, started by the command."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.kit.blueprints import WEB, machine
from tests.kit.ports import free_port
from tests.kit.processes import Program, clean_env, running
from tests.kit.roles import Roles


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Roles]:
    """Server, broker, trigger service, and an agent for `e1`, which has capacity for eight orders."""
    async with Roles.started(tmp_path_factory.mktemp("mesh"), "e1", "e2") as mesh:
        await mesh.triggers()
        await mesh.apply(machine("e1", slots=8))
        yield mesh


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def webs(mesh: Roles) -> None:
    """Three web machines on one agent, and the pool of them."""
    machines = (machine(f"web{number}", labels={"role": "web"}, params={"number": number}) for number in (1, 2, 3))
    await mesh.apply(*machines, {"kind": "pool", "name": "web", "where": WEB})
    await mesh.agent("web1", "web2", "web3", name="webs")


@pytest_asyncio.fixture(scope="session", loop_scope="session", autouse=True)
async def lonely_agent(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Program]:
    """An agent without a server; it is started before all else, for it takes its time to give up."""
    folder = tmp_path_factory.mktemp("lonely")
    options = ["--server", f"nats://127.0.0.1:{free_port()}", "--data", str(folder), "--element", "lonely"]
    async with running("agent", *options, env=clean_env(folder)) as program:
        yield program
