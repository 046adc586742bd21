"""No part of an agent dies without a word."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from muster.agent import fetch, report, resume
from muster.agent.main import run_agent
from muster.agent.settings import AgentSettings
from muster.mesh.jetstream import Puller
from muster.mesh.service import Stop
from tests.agent.broker_stand_in import StandIn
from tests.kit.waiting import deadline


@pytest.mark.usefixtures("broker")
@pytest.mark.parametrize("part", [report.Reporter, resume.GivenUp, fetch.Fetch, fetch.Source])
async def test_an_agent_ends_if_a_part_of_it_fails(
    part: type[Any], agent_settings: AgentSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = asyncio.Event()

    async def run(self: Any) -> None:
        self.ready.set()
        await failing.wait()
        raise ZeroDivisionError(part.__name__)

    monkeypatch.setattr(part, "run", run)
    ready = asyncio.Event()
    agent = asyncio.create_task(run_agent(agent_settings, Stop(), ready))
    async with deadline(10, "the agent's end"):
        await ready.wait()
        failing.set()
        with pytest.raises(ZeroDivisionError, match=part.__name__):
            await agent


async def test_an_agent_keeps_fetching_though_its_pull_fails(
    broker: StandIn, agent_settings: AgentSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pull is made anew; its failure does not end what runs."""
    pulls: list[Puller] = []

    class Failing(Puller):
        async def run(self) -> None:
            pulls.append(self)
            if len(pulls) == 1:
                self.ready.set()
                raise ZeroDivisionError("the first pull")
            await super().run()

    monkeypatch.setattr("muster.agent.fetch.Puller", Failing)
    stop, ready = Stop(), asyncio.Event()
    agent = asyncio.create_task(run_agent(agent_settings, stop, ready))
    async with deadline(10, "an order's end"):
        await ready.wait()
        await broker.done(await broker.order([{"name": "a", "uses": "noop"}]))
        stop.set()
        await agent
    assert len(pulls) > 1
