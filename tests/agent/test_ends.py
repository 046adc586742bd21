"""Every order ends some day, and as it should."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from muster.agent import orders
from muster.agent.job import _delay
from muster.blueprints.definition import Retry
from muster.mesh import records
from muster.mesh.model import OrderState
from tests.agent.broker_stand_in import StandIn


@pytest.mark.parametrize(("delay", "waits"), [("1ms", 0.01), ("0s", 0.0)])
def test_a_delay_never_overflows(delay: str, waits: float) -> None:
    assert _delay(Retry(attempts=1000, delay=delay, backoff=10.0, max_delay="10ms"), 400) == waits


async def test_an_order_on_which_its_agent_keeps_failing_fails(
    broker: StandIn, agent: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(_: Any) -> Any:
        raise ZeroDivisionError("a bug of ours")

    monkeypatch.setattr(orders, "run", failing)
    broker.on_resume = broker.lose
    order = await broker.order([{"name": "a", "uses": "noop"}])
    done = await broker.done(order)
    assert done.state is OrderState.FAILED
    assert "a bug of ours" in done.reason
    assert len(broker.of(order, records.Claimed)) == orders.MOST_BUGS
