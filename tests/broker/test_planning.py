"""What planning makes of requests and events: a world in memory, and no server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from muster.broker.planning import orders
from muster.broker.planning.blueprints import Blueprints
from muster.broker.planning.firings import FiringPlans
from muster.broker.planning.orders import plan_orders
from muster.mesh import names, records
from muster.mesh.caller import Caller
from muster.mesh.errors import InvalidError, NotFoundError, RefusedError
from muster.mesh.firing import FireRequest
from muster.mesh.model import OrderRequest
from tests.broker.test_firing_state import Book
from tests.kit.manifests import applied

BLUEPRINT = {
    "kind": "blueprint",
    "name": "deploy",
    "inputs": {"times": {"type": "integer", "default": 1}, "ram": {"type": "integer", "default": 0}},
    "tasks": [{"name": "one", "run": "true"}],
    "always": [{"name": "two", "run": "true"}],
}


class World(Book):
    """Machines a, b and c, a blueprint, and whoever plans by them."""

    def __init__(self) -> None:
        super().__init__()
        self.apply(BLUEPRINT)
        self.blueprints = Blueprints(self.state)
        self.firings = FiringPlans(self.state, self.blueprints)

    def apply(self, *manifests: dict[str, Any]) -> None:
        changes = self.write(applied(manifests))
        assert changes.refused is None

    def plan(self, **fields: Any) -> list[records.Created]:
        request = OrderRequest(**{"blueprint": "deploy", **fields})
        return plan_orders(
            self.state, self.blueprints, request, by=Caller(name="test"), id_of=lambda place: f"o{place}"
        )

    def fired(self, body: Any = None, **fields: Any) -> records.Fired | str:
        request = FireRequest(trigger="t", event={"body": body, "kind": "push"}, **fields)
        return self.firings.plan(self.firings.aim("t"), request, "f", Caller(name="test"))

    def orders_of(self, body: Any = None) -> list[tuple[str | None, dict[str, Any]]]:
        record = self.fired(body)
        assert isinstance(record, records.Fired)
        assert not record.rejected
        return [(it.element, record.inputs if it.inputs is None else it.inputs) for it in record.orders]

    def with_trigger(self, **fields: Any) -> None:
        target = {"where": 'element.name != "c"', "all": True}
        self.apply(
            {"kind": "trigger", "name": "t", "provider": "event", "blueprint": "deploy", "target": target} | fields
        )


@pytest.fixture
def world() -> World:
    return World()


def test_an_order_has_the_pinned_blueprint_and_where_each_input_came_from(world: World) -> None:
    world.apply({"kind": "profile", "name": "big", "params": {"ram": 64}})
    world.apply({"kind": "machine", "name": "a", "profiles": ["big"]})
    (order,) = world.plan(on="a", inputs={"times": 2}, labels={"by": "hand"})
    assert (order.order, order.element, order.version, str(order.by)) == ("o0", "a", 1, "test")
    assert order.inputs == {"times": 2, "ram": 64}
    assert order.sources == {"times": "order", "ram": "profile:big"}
    assert (order.has_always, order.has_on_failure, order.labels) == (True, False, {"by": "hand"})
    world.apply({**BLUEPRINT, "always": []})
    (later,) = world.plan(on="a")
    assert (later.version, later.has_always) == (2, False)
    assert later.digest != order.digest


def test_a_request_for_several_elements_is_all_or_nothing(world: World) -> None:
    every = {"where": 'element.kind == "machine"', "all": True}
    assert [order.element for order in world.plan(**every)] == ["a", "b", "c"]
    world.apply({"kind": "machine", "name": "b", "params": {"ram": "much"}})
    with pytest.raises(InvalidError) as refused:
        world.plan(**every)
    assert [problem.path for problem in refused.value.problems] == ["inputs.ram"]


def test_one_request_makes_no_more_orders_than_a_batch_holds(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders, "MAX_ORDERS", 2)
    with pytest.raises(RefusedError, match="3 elements match, and one request makes at most 2"):
        world.plan(where="true", all=True)


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"blueprint": "deploi", "on": "a"}, NotFoundError, "did you mean 'deploy'"),
        ({"on": "d"}, NotFoundError, "no element 'd'"),
        ({"pool": "p"}, NotFoundError, "no pool 'p'"),
        ({"where": "element.name == 'd'"}, RefusedError, "no element matches"),
        ({"on": "a", "inputs": {"times": "twice"}}, InvalidError, "do not fit blueprint deploy"),
        ({"on": "a", "parent": "gone"}, RefusedError, "the parent order gone has ended"),
    ],
)
def test_what_cannot_become_orders_is_refused_with_the_reason(
    world: World, fields: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        world.plan(**fields)


def test_a_child_counts_the_orders_above_it(world: World) -> None:
    ident = ""
    for depth in range(orders.MAX_DEPTH + 1):
        (record,) = world.plan(on="a", parent=ident or None)
        assert record.depth == depth
        ident = f"depth{depth}"
        world.write(records.Created(**{**_fields(record), "order": ident}))
    with pytest.raises(RefusedError, match="16 orders are above one another"):
        world.plan(on="a", parent=ident)


def _fields(record: records.Created) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__struct_fields__}


def test_orders_of_a_trigger_are_planned_as_those_of_a_request(world: World) -> None:
    world.with_trigger(inputs={"times": "{{ event.body.times }}"})
    world.apply({"kind": "machine", "name": "b", "params": {"ram": 64}})
    by_hand = world.plan(where='element.name != "c"', all=True, inputs={"times": 3})
    assert world.orders_of({"times": 3}) == [(order.element, order.inputs) for order in by_hand]
    record = world.fired({"times": 3})
    assert isinstance(record, records.Fired)
    assert (record.blueprint_version, record.digest) == (by_hand[0].version, by_hand[0].digest)
    assert record.sources == {"times": "trigger", "ram": "blueprint"}
    assert [order.id for order in record.orders] == [names.order_of("f", 0), names.order_of("f", 1)]


def test_an_event_that_does_not_concern_the_trigger_makes_no_record(world: World) -> None:
    world.with_trigger(when='event.kind == "tag"')
    assert world.fired() == '`event.kind == "tag"` does not hold'


def test_an_event_that_cannot_become_orders_is_kept_with_the_reason(world: World) -> None:
    world.with_trigger(inputs={"times": "{{ event.body.missing }}"})
    record = world.fired({"x": 1})
    assert isinstance(record, records.Fired)
    assert "missing" in record.rejected
    assert not record.orders
    assert b'"x":1' in bytes(record.event)


@pytest.mark.parametrize(
    "change",
    [
        lambda world: world.apply({"kind": "machine", "name": "a", "params": {"ram": 8}}),
        lambda world: world.apply({**BLUEPRINT, "inputs": {"ram": {"type": "integer", "default": 8}}}),
        lambda world: world.with_trigger(inputs={"ram": 8}),
    ],
    ids=["element", "blueprint", "trigger"],
)
def test_what_is_remembered_of_a_trigger_follows_what_changes(world: World, change: Callable[[World], None]) -> None:
    world.with_trigger()
    assert world.orders_of()[0][1]["ram"] == 0
    assert world.orders_of() == world.orders_of()
    change(world)
    assert world.orders_of()[0][1]["ram"] == 8


def test_a_burst_makes_its_orders_by_what_holds_when_it_has_ended(world: World) -> None:
    world.with_trigger(debounce="10s", inputs={"times": "{{ event.body.times }}"})
    first = world.fired({"times": 2})
    assert isinstance(first, records.Fired)
    assert (first.quiet, first.orders) == (10.0, ())
    world.write(first)
    (pending,) = world.state.trigger_statuses.of("t").pending
    world.apply({"kind": "machine", "name": "a", "params": {"ram": 8}})
    second = world.firings.settled("t", pending)
    assert (second.settles, [order.element for order in second.orders]) == (True, ["a", "b"])
    assert second.inputs == {"times": 2, "ram": 8}
    world.apply({"kind": "trigger", "name": "t", "provider": "event", "blueprint": "deploy", "target": {"on": "d"}})
    assert "no element 'd'" in world.firings.settled("t", pending).rejected
