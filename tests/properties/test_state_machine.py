"""The specification of the state machine, as invariants over any sequence of records.

Agents here are liars with bad memories: they repeat reports, send them late, for older attempts and
for orders of others.  The claims below hold for anything that they write.
"""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, initialize, invariant, multiple, rule

from muster.broker.projection import database
from muster.broker.projection.batch import Batch
from muster.broker.projection.tables import connect, write
from muster.broker.state.apply import apply
from muster.broker.state.changes import Changes
from muster.broker.state.held import target_of
from muster.broker.state.loss import MOST_LOST
from muster.broker.state.order import has_its_children, is_held, runs_directly
from muster.broker.state.table import TABLE
from muster.broker.state.waiting import hindrance
from muster.broker.state.world import World
from muster.mesh import names, records
from muster.mesh.caller import Caller
from muster.mesh.model import FINAL_JOB_STATES, FINAL_STATES, Direct, Job, JobState, Order, OrderState
from tests.kit.manifests import applied

pytestmark = pytest.mark.timeout(300)  # some 10 s of a processor, which a busy host takes minutes for

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
ELEMENTS = ("a", "b", "c.d")
POOL = "all"
FLEET: tuple[dict[str, Any], ...] = (
    *({"kind": "machine", "name": name, "labels": {"n": name}} for name in ELEMENTS),
    {"kind": "pool", "name": POOL, "where": "element.online"},
)

elements = st.sampled_from(ELEMENTS)
attempts = st.integers(min_value=0, max_value=3)
job_states = st.sampled_from(list(JobState))


def snapshot(state: World) -> bytes:
    """Everything a state machine knows, comparable."""
    return msgspec.json.encode(
        {
            "seq": state.seq,
            "orders": state.orders,
            "elements": state.elements,
            "objects": [state.objects.stored[key] for key in sorted(state.objects.stored)],
            "members": {pool: sorted(members) for pool, members in state.pools.members.items()},
            "timers": state.timers,
            "triggers": {it.name: it for it in state.trigger_statuses},
            "pending": [state.trigger_statuses.pending, state.trigger_statuses.pending_bytes],
            "cooling": state.trigger_statuses._cooling,
            "rules": state.lanes.rules,
            "queues": {pool: state.pools.uses(pool) for pool in state.pools.queues()},
            "lines": {
                name: [sorted(line.open), sorted(line.admitted), line.waiting]
                for name, line in state.lanes._lines.items()
            },
        },
        order="deterministic",
    )


def reachable(before: OrderState, after: OrderState) -> bool:
    """One record may pass a state (an order is queued and at once offered)."""
    steps = TABLE[before].leads_to
    return after is before or after in steps or any(after in TABLE[step].leads_to for step in steps)


class Mesh(RuleBasedStateMachine):
    """Feeds records to a state machine and to a second one, and keeps the ledger that both must agree with."""

    orders: Bundle[str] = Bundle("orders")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "projection.sqlite"
        assert database.kept(self.path, "fast").seq == 0
        self.tables = connect(self.path, "fast")
        self.batch = Batch()
        self.state, self.twin = World(), World()
        self.log: list[tuple[int, datetime, str, bytes]] = []
        self.known: dict[str, Order] = {}
        self.ends: dict[str, int] = {}
        self.last_on: dict[str, int] = {}
        self.count = 0

    def teardown(self) -> None:
        self.tables.close()
        self.folder.cleanup()

    # -- feeding ---------------------------------------------------------------------------------

    def write(self, record: records.Record, actor: str = names.BROKER) -> Changes:
        return self.put(records.subject(record, actor), records.encode(record))

    def put(self, subject: str, data: bytes) -> Changes:
        seq = len(self.log) + 1
        message = (seq, EPOCH + timedelta(seconds=seq), subject, data)
        self.log.append(message)
        changes = apply(self.state, *message)
        apply(self.twin, *message)
        self.batch.add(changes)
        parts = names.log_parts(subject)
        if parts is not None and parts[0] == "order":
            self.last_on[parts[1]] = seq
        for order in changes.orders.values():
            self.observe(order, changes)
        return changes

    def observe(self, order: Order, changes: Changes) -> None:
        before = self.known.get(order.id)
        if before is not None:
            assert reachable(before.state, order.state), f"{before.state} -> {order.state}"
            assert order.attempt >= before.attempt
            if before.state in FINAL_STATES and order.state not in FINAL_STATES:
                assert changes.events[-1].kind == "order.retried"
            self.check_jobs(before, order)
        if order.is_final and (before is None or not before.is_final):
            self.ends[order.id] = self.ends.get(order.id, 0) + 1
        self.known[order.id] = order

    def check_jobs(self, before: Order, after: Order) -> None:
        if before.is_final:
            return
        now = {job.name: job for job in after.jobs}
        for job in before.jobs:
            if job.state in FINAL_JOB_STATES:
                assert now[job.name] == job, "an ended job changed"

    # -- what may be written ---------------------------------------------------------------------

    @initialize(target=orders)
    def fleet(self) -> MultipleResults[str]:
        assert self.write(applied(FLEET)).refused is None
        for element in ELEMENTS:
            assert self.write(records.Joined(element=element, agent="agent")).refused is None
        return multiple(self.made("a"), self.made(None))

    @rule(
        target=orders,
        element=st.none() | elements,
        delay=st.booleans(),
        parent=st.none() | orders,
        cleans=st.booleans(),
    )
    def create(self, element: str | None, delay: bool, parent: str | None, *, cleans: bool) -> str:
        return self.made(element, delay=delay, parent=parent, cleans=cleans)

    def made(
        self,
        element: str | None,
        *,
        delay: bool = False,
        parent: str | None = None,
        agent: str | None = None,
        cleans: bool = False,
    ) -> str:
        self.count += 1
        ident = f"order{self.count}"
        self.write(
            records.Created(
                order=ident,
                blueprint="b",
                version=1,
                digest="d",
                by=Caller(name="test"),
                element=element,
                pool=None if element else POOL,
                not_before=EPOCH if delay else None,
                parent=parent,
                start=Direct(agent=agent) if agent is not None else None,
                has_always=cleans,
            )
        )
        return ident

    @rule(target=orders, element=elements, agent=st.sampled_from(("agent", "other")), parent=st.none() | orders)
    def begin(self, element: str, agent: str, parent: str | None) -> str:
        """The record has reached the agent when it is applied, so nothing may be in its way."""
        ident = self.made(element, parent=parent, agent=agent)
        order = self.known[ident]
        assert (order.state, order.attempt, order.agent) == (OrderState.RUNNING, 1, agent)
        assert runs_directly(order)
        return ident

    @rule(order=orders, element=elements)
    def create_again(self, order: str, element: str) -> None:
        if order in self.state.orders:
            record = records.Created(
                order=order, blueprint="b", version=1, digest="d", by=Caller(name="test"), element=element
            )
            assert self.write(record).refused is not None

    @rule(order=orders, element=elements, attempt=attempts)
    def claim(self, order: str, element: str, attempt: int) -> None:
        before = self.state.orders.get(order)
        changes = self.write(records.Claimed(order=order, attempt=attempt, element=element, agent="agent"), element)
        if changes.refused is None:
            assert before is not None
            assert before.state is OrderState.OFFERED
            assert attempt == before.attempt + 1
            assert (self.known[order].state is OrderState.CANCELLING) == is_cancelled(before)
            assert before.element == element or self.state.elements[element].last == "agent"

    @rule(order=orders, element=elements)
    def claim_rightly(self, order: str, element: str) -> None:
        known = self.state.orders.get(order)
        if known is not None and known.state is OrderState.OFFERED:
            actor = known.element or element
            if known.element is None and known.pool and not self.state.fleet.may_serve(known.pool, actor):
                return
            attempt = known.attempt + 1
            agent = self.state.elements[actor].last or ""
            record = records.Claimed(order=order, attempt=attempt, element=actor, agent=agent)
            assert self.write(record, actor).refused is None

    @rule(order=orders, element=elements, attempt=attempts, name=st.sampled_from("xyz"), state=job_states)
    def report(self, order: str, element: str, attempt: int, name: str, state: JobState) -> None:
        before = self.state.orders.get(order)
        record = records.Reported(order=order, attempt=attempt, jobs=(Job(name=name, state=state),))
        changes = self.write(record, element)
        if changes.refused is None:
            assert before is not None
            assert is_held(before)
            assert (before.attempt, before.element) == (attempt, element)

    @rule(order=orders, state=job_states, idempotent=st.booleans(), name=st.sampled_from("xyz"))
    def report_rightly(self, order: str, state: JobState, idempotent: bool, name: str) -> None:
        known = self.state.orders.get(order)
        if known is not None and is_held(known):
            job = Job(name=name, state=state, idempotent=idempotent)
            self.write(records.Reported(order=order, attempt=known.attempt, jobs=(job,)), str(known.element))

    @rule(
        order=orders,
        element=elements,
        attempt=attempts,
        waits=st.tuples(st.none() | st.just(EPOCH), st.booleans()),
        right=st.booleans(),
        cleans_up=st.booleans(),
    )
    def suspend(
        self,
        order: str,
        element: str,
        attempt: int,
        waits: tuple[datetime | None, bool],
        *,
        right: bool,
        cleans_up: bool,
    ) -> None:
        known = self.state.orders.get(order)
        if right and known is not None:
            element, attempt = known.element or element, known.attempt
        until, children = waits
        awaited = tuple(known.children) if known is not None and children else ()
        record = records.Suspended(
            order=order,
            attempt=attempt,
            jobs=(),
            until=until,
            children=children,
            orders=awaited,
            cleans_up=cleans_up,
        )
        self.write(record, element)

    @rule(
        order=orders, element=elements, attempt=attempts, state=st.sampled_from(list(OrderState)), right=st.booleans()
    )
    def end(self, order: str, element: str, attempt: int, state: OrderState, right: bool) -> None:
        known = self.state.orders.get(order)
        if right and known is not None:
            element, attempt = known.element or element, known.attempt
        changes = self.write(records.Done(order=order, attempt=attempt, state=state), element)
        if changes.refused is None:
            assert state in FINAL_STATES
            assert order not in self.state.orders

    @rule(order=orders, attempt=attempts, right=st.booleans())
    def lose(self, order: str, attempt: int, right: bool) -> None:
        known = self.state.orders.get(order)
        if right and known is not None:
            attempt = known.attempt
        changes = self.write(records.Lost(order=order, attempt=attempt, reason="killed"))
        if changes.refused is None and known is not None and known.state is OrderState.RUNNING:
            unsafe = any(job.state is JobState.RUNNING and not job.idempotent for job in known.jobs)
            ends = unsafe or known.lost_in_row + 1 >= MOST_LOST
            now = self.known[order]
            assert (now.state is OrderState.FAILED) == (is_failing(known) or (ends and not known.cleans_up))
            if ends and not is_failing(known) and known.cleans_up:
                assert is_failing(now)
                assert now.element == known.element, "only its host can be cleaned up"

    @rule(order=orders, idempotent=st.booleans())
    def lose_in_the_middle_of_a_task(self, order: str, idempotent: bool) -> None:
        known = self.state.orders.get(order)
        if known is None or known.state is not OrderState.RUNNING:
            return
        job = Job(name=f"task{known.attempt}", state=JobState.RUNNING, idempotent=idempotent)
        self.write(records.Reported(order=order, attempt=known.attempt, jobs=(job,)), str(known.element))
        self.lose(order, 0, right=True)

    @rule(order=orders)
    def cancel(self, order: str) -> None:
        before = self.known[order]
        changes = self.write(records.CancelRequested(order=order, by=Caller(name="test")))
        if changes.refused is None and before.cleans_up and before.clean_up is None:
            assert not self.known[order].is_final, "it has not cleaned up"
        if is_cancelled(before) and before.state in {OrderState.QUEUED, OrderState.OFFERED}:
            assert self.known[order].state not in {OrderState.QUEUED, OrderState.OFFERED}, "asked twice: at once"

    @rule(order=orders)
    def give_up(self, order: str) -> None:
        before = self.state.orders.get(order)
        if self.write(records.GivenUp(order=order, reason="too large")).refused is None:
            assert before is not None
            assert before.state in {OrderState.QUEUED, OrderState.OFFERED}
            assert self.known[order].state is (OrderState.CANCELLED if is_cancelled(before) else OrderState.FAILED)

    @rule(order=orders)
    def come_due(self, order: str) -> None:
        waiting = self.known[order].waiting
        changes = self.write(records.Due(order=order))
        if changes.refused is None:
            for child in getattr(waiting, "ids", ()):
                assert self.known[child].state in {*FINAL_STATES, OrderState.CANCELLING}, "its time has passed"

    @rule(order=orders)
    def retry(self, order: str) -> None:
        record = records.Retried(order=order, snapshot=self.known[order], by=Caller(name="test"))
        changes = self.write(record)
        if changes.refused is None:
            assert order in self.state.orders

    @rule(element=elements, news=st.sampled_from(range(8)))
    def something_happens_to_an_element(self, element: str, news: int) -> None:
        happenings: tuple[records.Record, ...] = (
            records.DrainChanged(element=element, drained=True, by=Caller(name="test")),
            records.DrainChanged(element=element, drained=False, by=Caller(name="test")),
            records.ModeChanged(element=element, mode="workflow", by=Caller(name="test")),
            records.ModeChanged(element=element, mode="work_order", by=Caller(name="test")),
            records.ModeChanged(element=element, mode="nonsense", by=Caller(name="test")),
            records.Joined(element=element, agent="other"),
            records.Joined(element=element, agent="agent"),
            records.Left(element=element, agent="agent", reason="test"),
        )
        self.write(happenings[news])

    @rule(order=orders, data=st.binary(max_size=40), actor=elements)
    def scribble(self, order: str, data: bytes, actor: str) -> None:
        """A PubAck, or any other thing that somebody made land on the log."""
        before = snapshot_without_revs(self.state)
        assert self.put(names.log("order", order, actor), data).refused is not None
        assert snapshot_without_revs(self.state) == before

    @rule(order=orders, actor=elements)
    def forge(self, order: str, actor: str) -> None:
        """An agent writes what only the broker may."""
        record = records.CancelRequested(order=order, by=Caller(name="an agent"))
        assert self.put(names.log("order", order, actor), records.encode(record)).refused is not None

    @rule()
    def commit(self) -> None:
        if self.batch.seq:
            write(self.tables, self.batch)
            self.batch = Batch()

    @rule()
    def restart(self) -> None:
        """A broker that starts from its tables knows what one that never stopped knows."""
        self.commit()
        kept = database.kept(self.path, "fast")
        fresh = World()
        fresh.load(kept)
        fresh.refused = self.state.refused
        if kept.seq == self.state.seq:
            assert snapshot(fresh) == snapshot(self.state)
            self.twin = fresh

    # -- what always holds -----------------------------------------------------------------------

    @invariant()
    def two_state_machines_agree(self) -> None:
        assert snapshot(self.state) == snapshot(self.twin)

    @invariant()
    def every_accepted_order_is_open_or_ended_once(self) -> None:
        for ident, order in self.known.items():
            assert (ident in self.state.orders) != order.is_final

    @invariant()
    def a_claim_is_compared_with_the_last_thing_on_its_subjects(self) -> None:
        for ident, order in self.state.orders.items():
            assert order.rev == self.last_on.get(ident, 0)

    @invariant()
    def indexes_hold_what_they_say(self) -> None:
        for order in self.state.orders.values():
            held, target = self.state.held, target_of(order)
            assert order.id in held.all_open(target)
            assert (order.state is OrderState.QUEUED) == (order.id in held.queued_for(target))
            assert is_held(order) <= (order.id in held.by(order.runner or ""))

    @invariant()
    def only_what_waits_for_a_time_has_a_timer(self) -> None:
        for ident in self.state.timers:
            assert self.state.orders[ident].state in {OrderState.QUEUED, OrderState.SUSPENDED}

    @invariant()
    def nothing_waits_without_a_reason_that_still_holds(self) -> None:
        for order in self.state.orders.values():
            if order.state is OrderState.QUEUED:
                assert order.waiting is not None
                assert order.waiting == hindrance(order, self.state)
            elif order.state is OrderState.SUSPENDED:
                assert order.waiting is not None
                assert not has_its_children(order)
            else:
                assert order.waiting is None or order.state is OrderState.CANCELLING


def is_cancelled(order: Order) -> bool:
    return order.clean_up is not None and order.clean_up.state is OrderState.CANCELLED


def is_failing(order: Order) -> bool:
    return order.clean_up is not None and order.clean_up.state is OrderState.FAILED


def snapshot_without_revs(state: World) -> list[Order]:
    return [msgspec.structs.replace(order, rev=0) for order in state.orders.values()]


TestMesh = Mesh.TestCase
TestMesh.settings = settings(
    max_examples=80, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
)
