"""The specification of keys and bursts: firings in lanes, on top of all that the other two specifications do."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import MultipleResults, initialize, invariant, multiple, precondition, rule

from muster.broker.state.trigger_status import lane_of, trigger_of
from muster.mesh import records
from muster.mesh.caller import Caller
from muster.mesh.firing import Firing, FiringState
from tests.kit.manifests import applied
from tests.properties.test_firings import Firings, planned
from tests.properties.test_state_machine import ELEMENTS, EPOCH, POOL, Mesh

pytestmark = pytest.mark.timeout(300)  # some 10 s of a processor, which a busy host takes minutes for

COOLDOWN = timedelta(seconds=10)
KEYED: tuple[dict[str, Any], ...] = (
    {"name": "waits", "target": {"pool": POOL}, "max_open": 1},
    {"name": "skips", "target": {"on": "a"}, "max_open": 1, "on_overlap": "skip"},
    {"name": "replaces", "target": {"on": "a"}, "max_open": 1, "on_overlap": "replace"},
    {"name": "cools", "target": {"pool": POOL}, "cooldown": "10s"},
    {"name": "bursts", "target": {"pool": POOL}, "debounce": "5s", "max_open": 1},
)
MANIFESTS = {
    fields["name"]: {"kind": "trigger", "provider": "none", "blueprint": "b", "key": "event.x", **fields}
    for fields in KEYED
}

names_of = st.sampled_from(sorted(MANIFESTS))
groups = st.sampled_from([None, "main", "dev", "a/b"])


class Lanes(Firings):
    """The mesh with triggers whose firings have keys, and come in bursts."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: dict[str, dict[str, Firing]] = {}
        """By lane, what is pending: the ledger of this test."""
        self.fired_at: dict[str, Any] = {}

    @initialize()
    def keyed(self) -> None:
        assert self.write(applied(tuple(MANIFESTS.values()))).refused is None

    @rule(
        target=Mesh.orders,
        trigger=names_of,
        group=groups,
        items=st.lists(st.tuples(st.integers(0, len(ELEMENTS)), groups), min_size=1, max_size=3),
    )
    def fire_with_keys(
        self, trigger: str, group: str | None, items: list[tuple[int, str | None]]
    ) -> MultipleResults[str]:
        ident = f"keyed{len(self.log)}"
        orders = tuple(
            msgspec.structs.replace(planned(ident, place, target), group=own)
            for place, (target, own) in enumerate(items)
        )
        record = records.Fired(id=ident, trigger=trigger, version=1, by=Caller(name="test"), group=group, orders=orders)
        before = dict(self.fired_at)
        changes = self.write(record)
        firing = changes.firings[ident]
        for order in (self.known[ident] for ident in firing.orders):
            lane = lane_of(trigger, order.group)
            self.fired_at[lane] = self.now
            if trigger == "cools" and lane in before:
                assert self.now - before[lane] >= COOLDOWN
        return multiple(*firing.orders)

    @property
    def now(self) -> Any:
        return EPOCH + timedelta(seconds=len(self.log))

    @rule(trigger=names_of, group=groups, quiet=st.integers(1, 6), more=st.integers(0, 6))
    def come_in_a_burst(self, trigger: str, group: str | None, quiet: int, more: int) -> None:
        ident = f"burst{len(self.log)}"
        event = msgspec.Raw(b'{"n": %d}' % len(self.log))
        record = records.Fired(
            id=ident,
            trigger=trigger,
            version=1,
            by=Caller(name="test"),
            group=group,
            quiet=quiet,
            at_most=quiet + more,
            event=event,
        )
        changes = self.write(record)
        lane = lane_of(trigger, group)
        waiting = self.waiting.setdefault(lane, {})
        count = len(waiting)
        for firing in changes.firings.values():
            if firing.state is FiringState.SUPERSEDED:
                old = waiting.pop(firing.id)
                assert old.until is not None
                assert old.until > self.now or count > 1  # else only the leader is late, and it is of another burst
                assert (firing.superseded_by, firing.seq, firing.event) == (ident, old.seq, old.event)
        firing = changes.firings[ident]
        if firing.state is FiringState.PENDING:
            assert firing.until is not None
            assert firing.until <= self.now + timedelta(seconds=quiet)
            waiting[ident] = firing

    @precondition(lambda self: any(self.waiting.values()))
    @rule(target=Mesh.orders, data=st.data(), rejected=st.sampled_from(["", "", "no"]), address=st.integers(0, 3))
    def settle(self, data: st.DataObject, rejected: str, address: int) -> MultipleResults[str]:
        lane = data.draw(st.sampled_from(sorted(lane for lane, row in self.waiting.items() if row)))
        ident = data.draw(st.sampled_from(sorted(self.waiting[lane])))
        is_first = ident == next(iter(self.waiting[lane]))
        group = lane.partition("/")[2] if "/" in lane else None
        record = records.Fired(
            id=ident,
            trigger=trigger_of(lane),
            version=1,
            by=Caller(name="test"),
            group=group,
            settles=True,
            rejected=rejected,
            orders=() if rejected else (planned(ident, 0, address),),
        )
        changes = self.write(record)
        if not is_first:
            assert changes.refused is not None
            return multiple()
        firing, was = changes.firings[ident], self.waiting[lane].pop(ident)
        assert firing.state in {FiringState.FIRED, FiringState.SKIPPED, FiringState.REJECTED}
        assert (firing.seq, firing.time, firing.event, firing.until) == (was.seq, was.time, was.event, None)
        if firing.state is FiringState.FIRED:
            self.fired_at[lane] = self.now
        assert self.write(record).refused is not None  # a second leader's
        return multiple(*firing.orders)

    @rule(trigger=names_of)
    def delete_with_keys(self, trigger: str) -> None:
        changes = self.write(records.Deleted(id="d", object_kind="trigger", name=trigger, by=Caller(name="test")))
        for lane in [lane for lane in self.waiting if trigger_of(lane) == trigger]:
            for ident in self.waiting.pop(lane):
                assert changes.firings[ident].state is FiringState.REJECTED
        self.fired_at = {lane: time for lane, time in self.fired_at.items() if trigger_of(lane) != trigger}

    @rule(trigger=names_of, enabled=st.booleans())
    def apply_with_keys(self, trigger: str, enabled: bool) -> None:
        manifest = {**MANIFESTS[trigger], "enabled": enabled}
        self.write(applied((manifest,)))

    @invariant()
    def what_is_pending_is_known_with_its_time(self) -> None:
        trigger_statuses = self.state.trigger_statuses
        reported = {it.name: [pending.id for pending in it.pending] for it in trigger_statuses if it.pending}
        assert reported == {lane: list(row) for lane, row in self.waiting.items() if row}
        assert trigger_statuses.pending == {
            lane: next(iter(row.values())).until for lane, row in self.waiting.items() if row
        }
        assert all(len(row) <= 2 for row in self.waiting.values())

    @invariant()
    def nothing_is_kept_of_a_lane_that_no_cooldown_and_no_burst_needs(self) -> None:
        for it in self.state.trigger_statuses:
            if it.name != trigger_of(it.name):
                assert it.pending or (trigger_of(it.name) == "cools" and it.last_fired is not None)


TestLanes = Lanes.TestCase
TestLanes.settings = settings(
    max_examples=60, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
)
