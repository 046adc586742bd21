"""What the state machine decides about orders that made others, record by record."""

from __future__ import annotations

from typing import Any

import pytest

from muster.broker.state.changes import Changes
from muster.mesh import records
from muster.mesh.caller import Caller
from muster.mesh.model import Order, OrderState
from tests.broker.test_firing_state import Book


class Family(Book):
    """`parent` runs on a, and has made `child`, for b."""

    def __init__(self) -> None:
        super().__init__()
        self.create("parent", element="a")
        self.claim("parent", "a")
        self.create("child", element="b", parent="parent", depth=1)

    def create(self, order: str, **fields: Any) -> None:
        self.write(records.Created(order=order, blueprint="b", version=1, digest="d", by=Caller(name="test"), **fields))

    def claim(self, order: str, element: str, attempt: int = 1) -> None:
        self.write(records.Claimed(order=order, attempt=attempt, element=element, agent="x"), element)

    def suspend(self, *awaited: str, attempt: int = 1) -> None:
        self.write(records.Suspended(order="parent", attempt=attempt, jobs=(), children=True, orders=awaited), "a")

    def end(self, order: str, element: str, state: OrderState = OrderState.FINISHED) -> Order:
        changes = self.write(records.Done(order=order, attempt=1, state=state), element)
        assert changes.refused is None
        return changes.orders[order]

    def lose(self, order: str) -> Changes:
        return self.write(records.Lost(order=order, attempt=1, reason="test"))

    def retry(self, order: Order) -> None:
        self.write(records.Retried(order=order.id, snapshot=order, by=Caller(name="test")))


@pytest.fixture
def family() -> Family:
    return Family()


@pytest.mark.parametrize("ending", ["suspended", "lost", "done"])
def test_a_cancelled_order_that_nobody_runs_any_more_waits_until_its_children_are_stopped(
    family: Family, ending: str
) -> None:
    family.cancel("parent")
    if ending == "suspended":
        family.suspend()
    elif ending == "lost":
        family.lose("parent")
    else:
        family.write(records.Done(order="parent", attempt=1, state=OrderState.CANCELLED), "a")
    assert family.states() == {"parent": "cancelled by test", "child": "offered"}
    assert family.state.orders["parent"].state is OrderState.CANCELLING
    changes = family.cancel("child")
    assert changes.orders["parent"].state is OrderState.CANCELLED
    assert not family.states()


def test_a_retried_order_knows_how_its_open_children_are(family: Family) -> None:
    ended = family.end("parent", "a", OrderState.FAILED)
    family.claim("child", "b")
    family.retry(ended)
    assert family.state.orders["parent"].children["child"].state is OrderState.RUNNING


def test_a_retried_order_does_not_wait_for_a_child_that_ended_while_it_was_over(family: Family) -> None:
    ended = family.end("parent", "a", OrderState.FAILED)
    family.claim("child", "b")
    family.end("child", "b")
    family.retry(ended)
    family.claim("parent", "a", attempt=2)
    family.suspend(attempt=2)
    assert family.states() == {"parent": "offered"}
    assert family.state.orders["parent"].children["child"].state is OrderState.FAILED


def test_an_order_waits_only_for_the_children_that_its_task_waits_for(family: Family) -> None:
    family.create("wanted", element="b", parent="parent", depth=1)  # `child` was made with `wait: false`
    family.suspend("wanted")
    assert family.states()["parent"] == "waits for its child orders"
    family.claim("wanted", "b")
    family.end("wanted", "b")
    assert family.states() == {"parent": "offered", "child": "offered"}


def test_an_order_that_does_not_say_for_which_children_it_waits_waits_for_all(family: Family) -> None:
    family.suspend()
    family.claim("child", "b")
    assert family.states()["parent"] == "waits for its child orders"
    family.end("child", "b")
    assert family.states() == {"parent": "offered"}
