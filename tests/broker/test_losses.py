"""Orders whose agents are lost: how often, and how they clean up nevertheless."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from muster.broker.duties.clean_up import LEASES, EndCleanUps
from muster.broker.lease import Lease
from muster.broker.state.changes import Changes
from muster.broker.state.loss import MOST_LOST
from muster.mesh import records
from muster.mesh.caller import Caller
from muster.mesh.model import Job, JobState, Order, OrderState
from tests.broker.test_firing_state import Book
from tests.kit.manifests import applied

GONE = "lost: its agent was gone 3 times while it ran"
LEASE = timedelta(seconds=30)


class Doomed(Book):
    """Order `o`, whose agents are lost one after another."""

    def __init__(self, **fields: Any) -> None:
        super().__init__()
        manifest = {"kind": "pool", "name": "p", "where": "true"}
        self.write(applied((manifest,)))
        for element in ("a", "b", "c"):
            self.write(records.Joined(element=element, agent="x"))
        target: dict[str, Any] = {} if "pool" in fields else {"element": "a"}
        self.write(
            records.Created(order="o", blueprint="b", version=1, digest="d", by=Caller(name="test"), **target, **fields)
        )

    @property
    def order(self) -> Order:
        return self.state.orders["o"]

    def claim(self, element: str = "a") -> None:
        attempt = self.order.attempt + 1
        record = records.Claimed(order="o", attempt=attempt, element=element, agent="x")
        assert self.write(record, element).refused is None

    def report(self, *jobs: Job) -> None:
        record = records.Reported(order="o", attempt=self.order.attempt, jobs=jobs)
        assert self.write(record, str(self.order.element)).refused is None

    def lose(self, *, ran: bool = True) -> Order:
        changes = self.write(records.Lost(order="o", attempt=self.order.attempt, reason="killed", ran=ran))
        assert changes.refused is None
        return changes.orders["o"]

    def lose_often(self, times: int, element: str = "a") -> Order:
        for _ in range(times):
            self.claim(element)
            found = self.lose()
        return found

    def done(self, state: OrderState) -> Order:
        record = records.Done(order="o", attempt=self.order.attempt, state=state)
        changes: Changes = self.write(record, str(self.order.element))
        assert changes.refused is None
        return changes.orders["o"]


@pytest.fixture(params=["element", "pool"])
def doomed(request: pytest.FixtureRequest) -> Doomed:
    return Doomed() if request.param == "element" else Doomed(pool="p")


def test_a_suspension_is_no_new_attempt(doomed: Doomed) -> None:
    doomed.claim()
    until = doomed.now + LEASE
    waits = records.Suspended(order="o", attempt=1, jobs=(), until=until)
    assert doomed.write(waits, "a").refused is None
    assert doomed.write(records.Due(order="o")).refused is None
    doomed.claim()
    assert (doomed.order.attempt, doomed.order.restarts) == (2, 0)
    assert doomed.lose().restarts == 1
    doomed.claim()
    ended = doomed.done(OrderState.FAILED)
    doomed.write(records.Retried(order="o", snapshot=ended, by=Caller(name="test")))
    assert doomed.order.restarts == 2


def test_an_order_that_lost_three_attempts_in_a_row_fails(doomed: Doomed) -> None:
    assert doomed.lose_often(2).state is OrderState.OFFERED
    ended = doomed.lose_often(1)
    assert (ended.state, ended.reason) == (OrderState.FAILED, GONE)
    assert [(loss.attempt, loss.reason) for loss in ended.losses] == [(1, "killed"), (2, "killed"), (3, "killed")]


def test_members_of_a_pool_that_it_kills_count_together() -> None:
    doomed = Doomed(pool="p")
    for element in ("a", "b", "c"):
        ended = doomed.lose_often(1, element)
    assert (ended.state, ended.reason) == (OrderState.FAILED, GONE)
    assert [loss.element for loss in ended.losses] == ["a", "b", "c"]


@pytest.mark.parametrize("state", [JobState.FINISHED, JobState.FAILED])
def test_a_job_that_ended_is_progress(doomed: Doomed, state: JobState) -> None:
    doomed.lose_often(2)
    doomed.claim()
    doomed.report(Job(name="first", state=state))
    assert doomed.lose().state is OrderState.OFFERED
    assert doomed.lose_often(1).state is OrderState.OFFERED
    assert doomed.lose_often(1).state is OrderState.FAILED


def test_a_job_that_only_started_or_was_reported_again_is_no_progress(doomed: Doomed) -> None:
    doomed.claim()
    doomed.report(Job(name="first", state=JobState.FINISHED))
    doomed.lose()
    for _ in range(MOST_LOST - 1):
        doomed.claim()
        doomed.report(Job(name="first", state=JobState.FINISHED), Job(name="second", state=JobState.RUNNING))
        ended = doomed.lose()
    assert ended.state is OrderState.FAILED
    assert ended.jobs[-1].error == "lost with its agent"


def test_an_attempt_that_ended_in_a_wait_is_not_in_the_row(doomed: Doomed) -> None:
    doomed.lose_often(2)
    doomed.claim()
    element = str(doomed.order.element)
    doomed.write(records.Suspended(order="o", attempt=3, jobs=(), until=doomed.state.time), element)
    doomed.write(records.Due(order="o"))
    doomed.claim(element)
    assert doomed.lose().state is OrderState.OFFERED


def test_what_an_agent_declined_does_not_count(doomed: Doomed) -> None:
    for _ in range(10):
        doomed.claim()
        assert doomed.lose(ran=False).state is OrderState.OFFERED
    assert doomed.order.losses == ()


def test_a_retry_begins_anew(doomed: Doomed) -> None:
    ended = doomed.lose_often(3)
    doomed.write(records.Retried(order="o", snapshot=ended, by=Caller(name="test")))
    assert doomed.lose_often(2).state is OrderState.OFFERED
    assert doomed.lose_often(1).state is OrderState.FAILED


@pytest.mark.parametrize("clean_up", ["has_always", "has_on_failure"])
@pytest.mark.parametrize("why", ["thrice", "not idempotent"])
@pytest.mark.parametrize("pool", [True, False], ids=["pool", "element"])
def test_an_order_that_ends_as_lost_is_offered_to_the_same_element_for_its_clean_up(
    why: str, clean_up: str, *, pool: bool
) -> None:
    doomed = Doomed(**{clean_up: True}, **({"pool": "p"} if pool else {}))
    if why == "thrice":
        doomed.lose_often(3)
    else:
        doomed.claim()
        doomed.report(Job(name="once", state=JobState.RUNNING, idempotent=False))
        doomed.lose()
    waiting = doomed.order
    assert waiting.clean_up is not None
    assert (waiting.state, waiting.runner, waiting.reason) == (OrderState.OFFERED, "a", waiting.clean_up.reason)
    assert waiting.reason.startswith("lost: ")
    record = records.Claimed(order="o", attempt=waiting.attempt + 1, element="b", agent="x")
    assert doomed.write(record, "b").refused is not None, "another host has nothing to clean up"
    doomed.claim()
    assert doomed.order.state is OrderState.RUNNING
    ended = doomed.done(OrderState.FINISHED)
    assert (ended.state, ended.reason) == (OrderState.FAILED, waiting.reason), "it has failed before it cleaned up"


def test_a_cancelled_order_that_is_lost_is_offered_for_its_clean_up() -> None:
    doomed = Doomed(has_always=True)
    doomed.claim()
    doomed.cancel("o")
    assert doomed.lose().state is OrderState.OFFERED
    doomed.claim()
    ended = doomed.done(OrderState.CANCELLED)
    assert (ended.state, ended.reason) == (OrderState.CANCELLED, "cancelled by test")


def test_a_clean_up_that_is_lost_too_is_not_run_again() -> None:
    doomed = Doomed(has_always=True)
    doomed.lose_often(3)
    ended = doomed.lose_often(1)
    assert (ended.state, ended.reason) == (OrderState.FAILED, f"{GONE}; its agent was lost again while it cleaned up")


def test_a_clean_up_that_was_declined_is_offered_again_to_the_same_element() -> None:
    doomed = Doomed(has_always=True, pool="p")
    doomed.lose_often(3)
    doomed.claim()
    assert (doomed.lose(ran=False).state, doomed.order.element) == (OrderState.OFFERED, "a")


def test_a_cancel_does_not_wait_for_the_clean_up_of_a_lost_order() -> None:
    doomed = Doomed(has_always=True)
    doomed.lose_often(3)
    ended = doomed.cancel("o").orders["o"]
    assert (ended.state, ended.reason) == (OrderState.FAILED, f"{GONE}; its clean-up was cancelled by test")


@pytest.mark.parametrize("is_cancelled", [True, False])
def test_an_order_ends_without_its_clean_up_if_its_element_does_not_come_back(*, is_cancelled: bool) -> None:
    doomed = Doomed(has_always=True)
    duty = EndCleanUps(Lease(LEASE))
    if is_cancelled:
        doomed.claim()
        doomed.cancel("o")
        doomed.lose()
    else:
        doomed.lose_often(3)
    clean_up = doomed.order.clean_up
    assert clean_up is not None
    since = clean_up.since
    assert list(duty.run_once(doomed.state, since + LEASE)) == []
    (record,) = duty.run_once(doomed.state, since + LEASES * LEASE)
    ended = doomed.write(record).orders["o"]
    why, state = ("cancelled by test", "cancelled") if is_cancelled else (GONE, "failed")
    assert (ended.state, ended.reason) == (state, f"{why}; its clean-up did not run: a did not take it in 600 s")
    assert not doomed.state.clean_ups


def test_a_clean_up_that_runs_is_not_given_up() -> None:
    doomed = Doomed(has_always=True)
    doomed.lose_often(3)
    doomed.claim()
    assert not doomed.state.clean_ups
