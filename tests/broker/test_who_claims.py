"""Who may claim a pool's order: its members, by the agents that act for them."""

from __future__ import annotations

import pytest

from muster.mesh import records
from muster.mesh.caller import Caller
from muster.mesh.model import OrderState
from tests.broker.test_firing_state import Book
from tests.kit.manifests import applied


class Pooled(Book):
    """Order `o` for pool `p`, with machine `a` in it and `b` not; a filter may ask whether somebody is online."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.write(applied(({"kind": "pool", "name": "p", "where": where},)))
        for element in ("a", "b"):
            self.write(records.Joined(element=element, agent=f"agent-of-{element}"))
        self.write(records.Created(order="o", blueprint="b", version=1, digest="d", by=Caller(name="test"), pool="p"))

    def claim(self, element: str, agent: str = "") -> str:
        record = records.Claimed(order="o", attempt=1, element=element, agent=agent or f"agent-of-{element}")
        refused = self.write(record, element).refused
        return refused.reason if refused else ""


@pytest.fixture(params=['element.name == "a"', 'element.name == "a" && element.online'])
def pooled(request: pytest.FixtureRequest) -> Pooled:
    return Pooled(request.param)


def test_a_member_claims(pooled: Pooled) -> None:
    assert not pooled.claim("a")
    assert pooled.state.orders["o"].state is OrderState.RUNNING


def test_who_is_no_member_may_not(pooled: Pooled) -> None:
    assert pooled.claim("b") == "b is not in pool p"
    assert pooled.claim("nobody") == "nobody is not in pool p"
    assert pooled.state.orders["o"].state is OrderState.OFFERED


def test_an_agent_that_does_not_act_for_the_member_may_not(pooled: Pooled) -> None:
    assert pooled.claim("a", "agent-of-b") == "its agent does not act for a"


def test_a_member_that_was_silent_for_a_while_claims_what_it_was_offered(pooled: Pooled) -> None:
    """It runs from its claim on: a refusal would have the task run twice."""
    pooled.write(records.Left(element="a", agent="agent-of-a", reason="test"))
    if pooled.state.orders["o"].state is OrderState.QUEUED:
        assert pooled.state.orders["o"].reason == "no matching element"
        return
    assert not pooled.claim("a")


def test_an_order_that_a_member_has_taken_before_is_its_own(pooled: Pooled) -> None:
    """It waits where it was started, even if the pool changed."""
    pooled.claim("a")
    pooled.write(records.Suspended(order="o", attempt=1, jobs=(), until=pooled.now), "a")
    pooled.write(records.Due(order="o"))
    pool = {"kind": "pool", "name": "p", "where": "false"}
    pooled.write(applied((pool,)))
    record = records.Claimed(order="o", attempt=2, element="a", agent="agent-of-a")
    assert pooled.write(record, "a").refused is None


def test_an_element_is_not_deleted_while_an_agent_acts_for_it(pooled: Pooled) -> None:
    delete = records.Deleted(id="d", object_kind="machine", name="b", by=Caller(name="test"))
    refused = pooled.write(delete).refused
    assert refused is not None
    assert refused.reason == "an agent acts for machine b, and would make it anew; stop that agent, then delete b"
    pooled.write(records.Left(element="b", agent="agent-of-b", reason="test"))
    assert pooled.write(delete).refused is None
