"""The specification of firings: any sequence of records of the state machine's own test, and triggers that fire."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, initialize, invariant, multiple, rule

from muster.broker.state.firing import MAX_CHAIN
from muster.broker.state.trigger_status import trigger_of
from muster.broker.state.world import World
from muster.mesh import names, records
from muster.mesh.caller import Caller
from muster.mesh.firing import Firing, FiringState
from muster.mesh.model import Order, OrderState
from muster.mesh.waiting import Lane
from tests.kit.manifests import applied
from tests.properties.test_state_machine import ELEMENTS, FLEET, POOL, Mesh, snapshot

pytestmark = pytest.mark.timeout(300)  # some 10 s of a processor, which a busy host takes minutes for

MOST = 2
WHERE = "element.online && element.name != 'a'"
TRIGGERS: tuple[dict[str, Any], ...] = (
    {"name": "queue", "target": {"pool": POOL}, "max_open": MOST},
    {"name": "skip", "target": {"where": WHERE, "queue": True}, "max_open": MOST, "on_overlap": "skip"},
    {"name": "replace", "target": {"on": "a"}, "max_open": MOST, "on_overlap": "replace"},
    {"name": "free", "target": {"where": WHERE, "queue": True}, "cooldown": "10s"},
)
MANIFESTS = {fields["name"]: {"kind": "trigger", "provider": "none", "blueprint": "b", **fields} for fields in TRIGGERS}
RELEASED = {OrderState.OFFERED, OrderState.RUNNING, OrderState.SUSPENDED}

triggers = st.sampled_from(sorted(MANIFESTS))


def planned(firing: str, place: int, target: int) -> records.Planned:
    ident = names.digest_id(firing, str(place))
    if target < len(ELEMENTS):
        return records.Planned(id=ident, element=ELEMENTS[target])
    if target == len(ELEMENTS):
        return records.Planned(id=ident, pool=POOL)
    return records.Planned(id=ident, pool=names.queue_pool(WHERE), where=WHERE)


class Firings(Mesh):
    """The mesh with triggers."""

    fired: Bundle[str] = Bundle("fired")

    def __init__(self) -> None:
        super().__init__()
        self.written: dict[str, records.Fired] = {}
        self.firings: dict[str, Firing] = {}

    @initialize()
    def installed(self) -> None:
        manifests = (*FLEET, *MANIFESTS.values())
        assert self.write(applied(manifests)).refused is None

    @rule(
        target=Mesh.orders,
        trigger=triggers,
        addresses=st.lists(st.integers(min_value=0, max_value=len(ELEMENTS) + 1), max_size=4),
        depth=st.sampled_from([0, 0, 0, 1, MAX_CHAIN, MAX_CHAIN + 1]),
        rejected=st.sampled_from(["", "", "", "no"]),
    )
    def fire(self, trigger: str, addresses: list[int], depth: int, rejected: str) -> MultipleResults[str]:
        ident = f"firing{len(self.written)}"
        record = self.written[ident] = records.Fired(
            id=ident,
            trigger=trigger,
            version=1,
            by=Caller(name="test"),
            depth=depth,
            rejected=rejected,
            orders=tuple(planned(ident, place, target) for place, target in enumerate(addresses)),
        )
        open_before = self.state.lanes.count(f"trigger/{trigger}")
        changes = self.write(record)
        assert changes.refused is None
        firing = self.firings[ident] = changes.firings[ident]
        made = {order.id for order in changes.orders.values() if order.firing == ident}
        assert made == set(firing.orders)
        assert (firing.state is FiringState.FIRED) == bool(made)
        if depth > MAX_CHAIN or rejected or not addresses:
            assert firing.state is FiringState.REJECTED
        if ("trigger", trigger) == ("trigger", "skip") and open_before >= MOST:
            assert firing.state is not FiringState.FIRED
        assert firing.reason or firing.state is FiringState.FIRED
        for order in made:
            assert self.known[order].chain == depth + 1
            assert self.known[order].created_by == f"trigger {trigger}"
        return multiple(*sorted(made))

    @rule(data=st.data())
    def fire_twice(self, data: st.DataObject) -> None:
        """The log has each firing once; if it is there twice, nothing is made twice."""
        if not self.written:
            return
        ident = data.draw(st.sampled_from(sorted(self.written)))
        record = self.written[ident]
        status = self.state.trigger_statuses.get(record.trigger)
        open_still = any(each.id in self.state.orders for each in record.orders)
        if not open_still and (status is None or status.last_firing != ident):
            return
        before = snapshot(self.state)
        changes = self.write(record)
        assert changes.refused is not None
        assert set(changes.orders) <= {record.about}  # only what its claim is compared with has moved
        assert without_sequences(snapshot(self.state)) == without_sequences(before)

    @rule(trigger=triggers)
    def delete(self, trigger: str) -> None:
        self.write(records.Deleted(id="d", object_kind="trigger", name=trigger, by=Caller(name="test")))

    @rule(trigger=triggers, enabled=st.booleans())
    def apply(self, trigger: str, enabled: bool) -> None:
        manifest = {**MANIFESTS[trigger], "enabled": enabled}
        self.write(applied((manifest,)))

    @invariant()
    def no_more_orders_of_a_trigger_are_under_way_than_may_be(self) -> None:
        lanes: dict[tuple[str | None, str | None], list[Order]] = defaultdict(list)
        for order in self.state.orders.values():
            lanes[order.trigger, order.group].append(order)
        for (trigger, _), of_it in lanes.items():
            ending = sum(order.state is OrderState.CANCELLING and order.started_at is not None for order in of_it)
            under_way = sum(order.state in RELEASED for order in of_it) + ending
            assert under_way <= limit_of(self.state, trigger, under_way)

    @invariant()
    def nobody_waits_for_others_while_there_is_room(self) -> None:
        for order in self.state.orders.values():
            if isinstance(order.waiting, Lane):
                assert self.state.lanes.blocks(order) == order.waiting
                assert order.id not in self.state.lanes.next_in(order.waiting.name)

    @invariant()
    def a_filter_is_a_pool_as_long_as_somebody_needs_it(self) -> None:
        needed = {order.pool for order in self.state.orders.values() if order.where is not None}
        for fields in TRIGGERS:
            if fields["target"].get("queue") and ("trigger", fields["name"]) in self.state.objects.stored:
                needed.add(names.queue_pool(fields["target"]["where"]))
        assert set(self.state.pools.queues()) == needed
        for pool in needed:
            online = {name for name, element in self.state.elements.items() if element.agent is not None}
            assert self.state.pools.members[str(pool)] == online - {"a"}

    @invariant()
    def what_is_deleted_is_forgotten_with_its_last_order(self) -> None:
        owners = {it.partition("/")[2] for it in self.state.lanes.rules}
        for trigger in {it.name for it in self.state.trigger_statuses} | owners:
            name = trigger_of(trigger)
            stored = ("trigger", name) in self.state.objects.stored
            assert stored or self.state.lanes.count(f"trigger/{name}")


def limit_of(state: World, trigger: str | None, unlimited: int) -> int:
    rule = state.lanes.rules.get(f"trigger/{trigger}")
    return rule.limit if rule is not None else unlimited


def without_sequences(snapshot: bytes) -> bytes:
    return re.sub(rb'"(seq|rev)":\d+', b"", snapshot)


TestFirings = Firings.TestCase
TestFirings.settings = settings(
    max_examples=60, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
)
