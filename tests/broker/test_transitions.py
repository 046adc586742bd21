"""The table of states, held against what records really do: each of its ways is reachable, and no other is taken."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from datetime import timedelta
from itertools import product
from typing import Final

import pytest

from muster.broker.state import orders
from muster.broker.state.step import Step
from muster.broker.state.table import TABLE
from muster.mesh import records
from muster.mesh.caller import Caller
from muster.mesh.model import FINAL_STATES, Direct, Job, JobState, Order, OrderState
from tests.broker.test_firing_state import START, Book

DEPTH: Final = 5
"""Records that follow one another at most; more lead nowhere that these do not."""

BY: Final = Caller(name="test")

Move = tuple[OrderState, OrderState]


class Watched(Book):
    """A log with one order, `o`, that notes each move which a record makes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.moves: set[Move] = set()
        put = orders.put

        def noted(step: Step, before: Order | None, after: Order) -> None:
            if after.id == "o" and before is not None and before.state is not after.state:
                self.moves.add((before.state, after.state))
            put(step, before, after)

        monkeypatch.setattr(orders, "put", noted)
        super().__init__()

    def begin(self, *, direct: bool, drained: bool, always: bool) -> None:
        """Makes the order anew."""
        super().__init__()
        self.write(records.Joined(element="a", agent="x"))
        self.write(records.DrainChanged(element="a", drained=drained, by=BY))
        start = Direct(agent="x") if direct else None
        self.write(
            records.Created(
                order="o", blueprint="b", version=1, digest="d", by=BY, element="a", has_always=always, start=start
            )
        )

    @property
    def order(self) -> Order | None:
        return self.state.orders.get("o")


def happenings(order: Order) -> Iterator[tuple[records.Record, str]]:
    """Yields what may come next for an order, and who writes it."""
    broker, attempt = "broker", order.attempt
    job = Job(name="j", state=JobState.RUNNING, idempotent=False)
    yield records.Claimed(order="o", attempt=attempt + 1, element="a", agent="x"), "a"
    yield records.Reported(order="o", attempt=attempt, jobs=(job,)), "a"
    yield records.Suspended(order="o", attempt=attempt, jobs=(), until=START + timedelta(days=1)), "a"
    yield records.Suspended(order="o", attempt=attempt, jobs=(), children=True), "a"
    for state in sorted(FINAL_STATES):
        yield records.Done(order="o", attempt=attempt, state=state), "a"
    yield records.Due(order="o"), broker
    yield records.Lost(order="o", attempt=attempt, reason="test"), broker
    yield records.GivenUp(order="o", reason="test"), broker
    yield records.CancelRequested(order="o", by=BY), broker
    yield records.DrainChanged(element="a", drained=True, by=BY), broker
    child = f"child{attempt}"
    yield records.Created(order=child, parent="o", element="b", blueprint="b", version=1, digest="d", by=BY), broker
    yield records.CancelRequested(order=child, by=BY), broker


def kind_of(order: Order) -> tuple[object, ...]:
    """What makes two orders behave alike."""
    children = tuple(child.state in FINAL_STATES for child in order.children.values())
    unsafe = any(job.state is JobState.RUNNING for job in order.jobs)
    ending = order.clean_up.state if order.clean_up is not None else order.ending is not None
    return order.state, type(order.waiting), ending, order.cleans_up, children, unsafe, order.start


def explore(book: Watched, **variant: bool) -> None:
    """Tries what may come next, from each kind of order that was not met before."""
    met: set[tuple[object, ...]] = set()
    todo: deque[tuple[tuple[records.Record, str], ...]] = deque([()])
    while todo:
        past = todo.popleft()
        book.begin(**variant)
        for record, actor in past:
            book.write(record, actor)
        order = book.order
        if order is None or kind_of(order) in met or len(past) == DEPTH:
            continue
        met.add(kind_of(order))
        todo.extend((*past, following) for following in happenings(order))


def test_each_way_of_the_table_is_reachable_and_no_other_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    book = Watched(monkeypatch)
    for direct, drained, always in product((False, True), repeat=3):
        explore(book, direct=direct, drained=drained, always=always)
    from_the_table = {(state, after) for state, row in TABLE.items() for after in row.leads_to}
    assert book.moves <= from_the_table
    by_retry = {(state, OrderState.QUEUED) for state in FINAL_STATES}
    assert from_the_table - book.moves <= by_retry, "nothing takes these ways"
