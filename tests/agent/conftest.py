"""An agent on a real nats-server, with a scripted broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from muster.agent.main import run_agent
from muster.agent.settings import AgentSettings
from muster.mesh.service import Stop
from tests.agent.broker_stand_in import StandIn, stand_in
from tests.kit.servers import Nats
from tests.kit.waiting import deadline

RunAgent = Callable[..., AbstractAsyncContextManager[asyncio.Event]]


@pytest.fixture
def lease() -> timedelta:
    """How long a message may go unrenewed."""
    return timedelta(seconds=30)


@pytest_asyncio.fixture
async def broker(fresh_nats: Nats, lease: timedelta) -> AsyncIterator[StandIn]:
    """A scripted broker with the element `e1`."""
    async with stand_in(fresh_nats.url, lease) as broker:
        await broker.element("e1", slots=4)
        yield broker


@pytest.fixture
def agent_settings(fresh_nats: Nats, tmp_path: Path) -> AgentSettings:
    """Settings of an agent for `e1`, with short times."""
    return AgentSettings(
        elements=("e1",),
        data=tmp_path / "agent",
        server=fresh_nats.url,
        open=True,
        grace=timedelta(seconds=0.3),
        kill_grace=timedelta(seconds=1),
        cleanup=timedelta(seconds=5),
        heartbeat=timedelta(seconds=0.2),
    )


@asynccontextmanager
async def running_agent(settings: AgentSettings, **changes: Any) -> AsyncIterator[asyncio.Event]:
    """An agent in this process; the event stops it cleanly, as a signal would."""
    import msgspec

    settings = msgspec.structs.replace(settings, **changes)
    stop = Stop()
    ready = asyncio.Event()
    task = asyncio.create_task(run_agent(settings, stop, ready))
    waiting = asyncio.create_task(ready.wait())
    async with deadline(10, "a ready agent"):
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if task.done():
        await task
    try:
        yield stop
    finally:
        stop.set()
        async with deadline(20, "the agent's end"):
            await task


@pytest_asyncio.fixture
async def agent(broker: StandIn, agent_settings: AgentSettings) -> AsyncIterator[asyncio.Event]:
    """A running agent for `e1`."""
    async with running_agent(agent_settings) as stop:
        yield stop
