"""Why an order that is offered was not started by anybody: said from the state as it is."""

from __future__ import annotations

from typing import Any

import pytest

from muster.broker.state.waiting import waiting_of, words_of
from muster.mesh import records
from muster.mesh.caller import Caller
from muster.mesh.waiting import NoSlot
from tests.broker.test_firing_state import Book
from tests.kit.manifests import applied


class Offer(Book):
    """Order `o` for machine `a`, or for pool `p` with `a` and `b`; `c` is in no pool."""

    def __init__(self) -> None:
        super().__init__()
        pool = {"kind": "pool", "name": "p", "where": 'element.name in ["a", "b"]'}
        self.write(applied((pool, {"kind": "machine", "name": "b", "slots": 2})))

    def create(self, order: str, **target: Any) -> None:
        self.write(records.Created(order=order, blueprint="b", version=1, digest="d", by=Caller(name="test"), **target))

    def join(self, *elements: str) -> None:
        for element in elements:
            self.write(records.Joined(element=element, agent="x"))

    def leave(self, element: str) -> None:
        self.write(records.Left(element=element, agent="x", reason="test"))

    def run(self, order: str, element: str) -> None:
        self.create(order, element=element)
        record = records.Claimed(order=order, attempt=1, element=element, agent="x")
        assert self.write(record, element).refused is None

    def why(self) -> str:
        waiting = waiting_of(self.state.orders["o"], self.state)
        return words_of(waiting) if waiting is not None else ""


@pytest.fixture
def for_one() -> Offer:
    book = Offer()
    book.create("o", element="a")
    return book


@pytest.fixture
def for_pool() -> Offer:
    book = Offer()
    book.create("o", pool="p")
    return book


def test_an_element_that_never_had_an_agent(for_one: Offer) -> None:
    assert for_one.why() == "a never had an agent"


def test_an_element_whose_agent_is_offline(for_one: Offer) -> None:
    for_one.join("a")
    for_one.leave("a")
    assert for_one.why() == f"its agent is offline since {for_one.now:%Y-%m-%dT%H:%M:%SZ}"


def test_a_running_order_says_at_once_that_its_agent_is_offline(for_one: Offer) -> None:
    for_one.join("a")
    for_one.write(records.Claimed(order="o", attempt=1, element="a", agent="x"), "a")
    assert not for_one.why()
    for_one.leave("a")
    assert for_one.why() == f"the agent of a is offline since {for_one.now:%Y-%m-%dT%H:%M:%SZ}"


def test_an_element_with_a_free_slot_needs_no_reason(for_one: Offer) -> None:
    for_one.join("a")
    assert not for_one.why()


def test_an_element_whose_slots_are_busy_names_what_runs_there(for_one: Offer) -> None:
    for_one.join("a")
    for_one.run("busybusybusybusy", "a")
    assert for_one.why() == "1 of 1 slots of a are busy: order busybusybu"


def test_an_element_that_was_drained_says_so(for_one: Offer) -> None:
    for_one.join("a")
    for_one.write(records.DrainChanged(element="a", drained=True, by=Caller(name="test")))
    assert for_one.why() == "its element takes nothing new"


def test_a_pool_whose_members_are_offline(for_pool: Offer) -> None:
    assert for_pool.why() == "all agents of pool p are offline (2 elements)"
    for_pool.join("a", "b")
    for_pool.leave("b")
    for_pool.leave("a")
    last = f"the last one was a, until {for_pool.now:%Y-%m-%dT%H:%M:%SZ}"
    assert for_pool.why() == f"all agents of pool p are offline (2 elements); {last}"


def test_a_pool_whose_members_are_busy(for_pool: Offer) -> None:
    for_pool.join("a", "b")
    for order, element in (("o1", "a"), ("o2", "b")):
        for_pool.run(order, element)
    assert not for_pool.why(), "b has two slots"
    for_pool.run("o3", "b")
    assert for_pool.why() == "3 of 3 slots of pool p are busy: order o1, o2, o3"


def test_only_members_that_take_work_count(for_pool: Offer) -> None:
    for_pool.join("a")
    for_pool.write(records.DrainChanged(element="a", drained=True, by=Caller(name="test")))
    assert for_pool.why() == "its element takes nothing new"


def test_a_pool_that_a_filter_defines_is_reported_by_its_filter() -> None:
    book = Offer()
    where = 'element.name == "a"'
    book.create("o", pool="queue:x", where=where)
    assert book.why() == f"all agents of `{where}` are offline (1 element)"


def test_the_place_in_the_line_is_said(for_one: Offer) -> None:
    for_one.join("a")
    for_one.create("p", element="a")
    for_one.run("busy", "a")
    assert for_one.why() == "1 of 1 slots of a are busy: order busy"
    waiting = waiting_of(for_one.state.orders["p"], for_one.state)
    assert isinstance(waiting, NoSlot)
    assert waiting.place == 2
    assert words_of(waiting).endswith("; 1 order is before it")


def test_an_order_that_only_has_to_clean_up_waits_like_others(for_one: Offer) -> None:
    for_one.join("a")
    for_one.write(records.Claimed(order="o", attempt=1, element="a", agent="x"), "a")
    suspended = records.Suspended(order="o", attempt=1, jobs=(), children=True, cleans_up=True)
    for_one.write(suspended, "a")
    for_one.cancel("o")
    for_one.leave("a")
    time = f"{for_one.now:%Y-%m-%dT%H:%M:%SZ}"
    assert for_one.why() == f"its agent is offline since {time}"
    assert for_one.state.orders["o"].reason == "cancelled by test"
