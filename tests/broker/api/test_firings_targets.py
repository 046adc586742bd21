"""The target that an event selects, and an order for each item of an event."""

from __future__ import annotations

from typing import Any

import pytest

from muster.mesh.firing import FireReply, FiringState
from tests.broker.api.conftest import Mesh
from tests.broker.api.ringing import fire, order, trigger
from tests.kit.bell import bell

__all__ = ["bell"]

pytestmark = pytest.mark.usefixtures("bell")

FLEET = [{"kind": "machine", "name": name, "labels": {"site": site}} for name, site in (("a1", "ams"), ("f1", "fra"))]
ALERTS = [
    {"status": "firing", "labels": {"instance": "a1"}},
    {"status": "firing", "labels": {"instance": "f1"}},
    {"status": "resolved", "labels": {"instance": "web01"}},
]
FIRING = 'event.body.alerts.filter(a, a.status == "firing")'
WHO = {"who": "{{ item.labels.instance }} is {{ index }}"}


async def made(mesh: Mesh, reply: FireReply) -> list[Any]:
    """Which elements its orders are for, and with which input; or why there are none."""
    found = [await order(mesh, ident) for ident in reply.orders]
    return [(each["element"], each["inputs"]["who"]) for each in found] or [reply.reason]


async def rung(mesh: Mesh, body: Any, **fields: Any) -> list[Any]:
    """What a trigger with these fields makes of a body."""
    await mesh.apply(trigger(**fields))
    reply = await fire(mesh, event={"body": body})
    assert (reply.state is FiringState.FIRED) == bool(reply.orders)
    return await made(mesh, reply)


@pytest.mark.parametrize(
    ("target", "body", "wanted"),
    [
        ({"on": "{{ event.body.host }}"}, {"host": "f1"}, ["f1"]),
        ({"on": "{{ event.body.site[0] }}{{ event.body.n }}"}, {"site": "ams", "n": 1}, ["a1"]),
        ({"where": "element.name == event.body.host"}, {"host": "a1"}, ["a1"]),
        ({"where": "element.labels.?site.orValue('') == event.body.site", "all": True}, {"site": "fra"}, ["f1"]),
        ({"where": "element.name in event.body.hosts", "count": 2}, {"hosts": ["f1", "a1"]}, ["a1", "f1"]),
        ({"pool": "{{ event.body.pool }}"}, {"pool": "everybody"}, [None]),
    ],
    ids=str,
)
async def test_an_event_says_for_whom_the_orders_are(
    own_mesh: Mesh, target: dict[str, Any], body: Any, wanted: list[Any]
) -> None:
    await own_mesh.apply(*FLEET, {"kind": "pool", "name": "everybody", "where": "true"})
    assert [element for element, _ in await rung(own_mesh, body, target=target)] == wanted


@pytest.mark.parametrize(
    ("target", "body", "words"),
    [
        ({"on": "{{ event.body.host }}"}, {"host": "f2"}, "there is no element 'f2'"),
        ({"on": "{{ event.body.host }}"}, {"host": "F1 or so"}, "target.on: 'F1 or so' is not the name of an element"),
        ({"on": "{{ event.body.host }}"}, {"host": "x" * 900_000}, "is not the name of an element"),
        ({"on": "{{ event.body.host }}"}, {"host": ["f1"]}, "a list is not the name of an element"),
        ({"on": "{{ event.body.host }}"}, {}, "target.on: there is no `event.body.host`"),
        ({"pool": "{{ event.body.pool }}"}, {"pool": "nope"}, "there is no pool 'nope'"),
        ({"where": "element.name == event.body.host"}, {"host": "f2"}, "no element matches"),
        ({"where": "element.name == event.body.host"}, {"hosts": "f2"}, "there is no `event.body.host`"),
    ],
    ids=lambda each: str(each)[:60],
)
async def test_what_an_event_names_and_nobody_knows_is_rejected_with_the_reason(
    own_mesh: Mesh, target: dict[str, Any], body: Any, words: str
) -> None:
    await own_mesh.apply(*FLEET)
    (reason,) = await rung(own_mesh, body, target=target)
    assert words in reason
    assert len(reason) < 1000


async def test_each_item_has_an_order_with_inputs_of_its_own(own_mesh: Mesh) -> None:
    await own_mesh.apply(*FLEET)
    body, on = {"alerts": ALERTS}, {"on": "{{ item.labels.instance }}"}
    wanted = [("a1", "a1 is 0"), ("f1", "f1 is 1")]
    assert await rung(own_mesh, body, each=FIRING, target=on, inputs=WHO) == wanted
    where = {"where": "element.name == item.labels.instance"}
    assert await rung(own_mesh, body, each=FIRING, target=where, inputs=WHO) == wanted
    everybody = await rung(own_mesh, body, each=FIRING, target={"where": "true", "all": True}, inputs=WHO)
    assert [element for element, _ in everybody] == ["a1", "f1", "web01"] * 2
    items = (await own_mesh.http.get("/api/v1/triggers/t/firings")).json()["items"]
    assert [len(item["orders"]) for item in items] == [6, 2, 2]


async def test_items_without_a_name_are_spread_over_what_matches(own_mesh: Mesh) -> None:
    await own_mesh.apply(*FLEET)
    found = await rung(own_mesh, [1, 2, 3], each="event.body", target={"where": "true"}, inputs={"who": "x"})
    assert sorted(element for element, _ in found) == ["a1", "f1", "web01"]


async def test_one_item_that_cannot_become_an_order_rejects_all_and_each_reason_is_reported(own_mesh: Mesh) -> None:
    alerts = [{"host": "web01"}, {"host": "nobody"}, {}]
    (reason,) = await rung(own_mesh, alerts, each="event.body", target={"on": "{{ item.host }}"})
    assert reason.startswith("2 of 3 items cannot become orders: item 1: there is no element 'nobody'")
    assert "item 2: target.on: there is no `event.body[2].host`" in reason
    assert (await own_mesh.http.get("/api/v1/orders")).json()["items"] == []


@pytest.mark.parametrize(
    ("each", "body", "words"),
    [
        ("event.body.alerts", {}, "there is no `event.body.alerts`"),
        ("event.body", {"a": 1}, "must give a list, but gives a map"),
        ("event.body", list(range(1001)), "gives 1001 items; the most are 1000"),
    ],
    ids=lambda each: str(each)[:40],
)
async def test_what_is_no_list_of_items_is_rejected(own_mesh: Mesh, each: str, body: Any, words: str) -> None:
    (reason,) = await rung(own_mesh, body, each=each)
    assert words in reason


async def test_an_event_without_items_is_ignored_and_one_with_many_makes_them_all(own_mesh: Mesh) -> None:
    await own_mesh.apply(trigger(each="event.body", inputs={"who": "{{ item }}"}))
    assert await fire(own_mesh, event={"body": []}) == FireReply(ignored="`event.body` gives no items")
    reply = await fire(own_mesh, event={"body": [str(number) for number in range(1000)]})
    assert len(set(reply.orders)) == 1000
    assert (await order(own_mesh, reply.orders[999]))["inputs"]["who"] == "999"


async def test_a_delivery_s_own_id_identifies_a_duplicate(own_mesh: Mesh) -> None:
    await own_mesh.apply(trigger(id="event.body.event.id", when="event.kind != 'ping'"))
    first = await fire(own_mesh, key="1", event={"kind": "x", "body": {"event": {"id": "E1"}, "attempt": 1}})
    again = await fire(own_mesh, key="2", event={"kind": "x", "body": {"event": {"id": "E1"}, "attempt": 2}})
    other = await fire(own_mesh, key="2", event={"kind": "x", "body": {"event": {"id": 7}}})
    assert (again.duplicate, again.firing, other.duplicate) == (True, first.firing, False)
    assert (await fire(own_mesh, event={"kind": "ping", "body": {}})).ignored
    without = await fire(own_mesh, key="3", event={"kind": "x", "body": {}})
    assert (without.state, "there is no `event.body.event`" in without.reason) == (FiringState.REJECTED, True)
    empty = await fire(own_mesh, key="4", event={"kind": "x", "body": {"event": {"id": ""}}})
    assert "empty text" in empty.reason
