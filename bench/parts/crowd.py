"""Many agents in one process: each with its own connection, element and folder, and all that a daemon does."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import structlog

from bench.parts.part import Settings, emit, run, started
from muster.agent.main import run_agent
from muster.agent.settings import AgentSettings
from muster.mesh.service import Stop


class Crowd(Settings, frozen=True, kw_only=True):
    """Who they are."""

    elements: tuple[str, ...]
    folder: str
    fast_loop: bool = False


async def work(settings: Crowd) -> None:
    """Acts for all of them until it is stopped."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    await started()
    stop = Stop()
    async with asyncio.TaskGroup() as group:
        ready = [asyncio.Event() for _ in settings.elements]
        for element, online in zip(settings.elements, ready, strict=True):
            data = Path(settings.folder) / element
            agent = AgentSettings(elements=(element,), data=data, server=settings.url, open=True)
            group.create_task(run_agent(agent, stop, online))
        for online in ready:
            await online.wait()
        emit(online=len(ready))
        await asyncio.get_running_loop().create_future()  # ended by a signal, as in a host that goes down


if __name__ == "__main__":
    run(Crowd, work)
