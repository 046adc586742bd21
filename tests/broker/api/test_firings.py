"""Triggers that fire: by hand, by a trigger service's request, again, for nobody, and too often."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nats.js.errors import KeyNotFoundError, NoKeysError

from muster.mesh import names
from muster.mesh.errors import NotFoundError
from muster.mesh.firing import Definition, FireReply, FireRequest, FiringState
from muster.mesh.nesting import DEEPEST
from tests.broker.api.conftest import BLUEPRINT, Mesh, running
from tests.broker.api.ringing import ask, events, fire, order, trigger
from tests.kit import record
from tests.kit.bell import bell
from tests.kit.servers import Nats
from tests.kit.waiting import eventually

__all__ = ["bell"]

pytestmark = pytest.mark.usefixtures("bell")


async def test_a_firing_makes_an_order_and_reports_where_it_comes_from(own_mesh: Mesh) -> None:
    await own_mesh.apply(
        trigger(inputs={"who": "{{ event.body.name }}", "times": "{{ event.body.n }}"}, labels={"a": "b"})
    )
    reply = await fire(own_mesh, event={"body": {"name": "Ada", "n": 3}}, depth=2)
    assert reply.state is FiringState.FIRED
    found = await order(own_mesh, reply.orders[0])
    assert (found["inputs"], found["labels"]) == ({"who": "Ada", "times": 3}, {"a": "b"})
    assert (found["created_by"], found["trigger"], found["firing"], found["chain"]) == (
        "trigger t",
        "t",
        reply.firing,
        3,
    )
    assert found["sources"] == {"who": "trigger", "times": "trigger"}
    assert found["id"] == names.digest_id(reply.firing, "0")
    firing = (await own_mesh.http.get(f"/api/v1/firings/{reply.firing[:8]}")).json()
    assert (firing["event"]["body"]["name"], firing["orders"]) == ("Ada", list(reply.orders))
    (event,) = [event for event in await events(own_mesh, "order.created") if event["subject"] == found["id"]]
    assert {name: event["data"][name] for name in ("trigger", "firing", "chain")} == {
        "trigger": "t",
        "firing": reply.firing,
        "chain": 3,
    }


async def test_the_same_event_fires_once(own_mesh: Mesh) -> None:
    await own_mesh.apply(trigger())
    replies = await asyncio.gather(*(fire(own_mesh, key="delivery 1") for _ in range(20)))
    assert len({reply.firing for reply in replies}) == len({reply.orders for reply in replies}) == 1
    assert sorted(reply.duplicate for reply in replies) == [False] + [True] * 19
    await fire(own_mesh, key="delivery 2")
    again = await fire(own_mesh, key="delivery 1")
    assert again.duplicate
    assert len((await own_mesh.http.get("/api/v1/orders")).json()["items"]) == 2


async def test_firings_without_a_key_are_never_the_same(own_mesh: Mesh) -> None:
    await own_mesh.apply(trigger())
    assert (await fire(own_mesh)).firing != (await fire(own_mesh)).firing


async def test_what_does_not_concern_the_trigger_leaves_no_trace(own_mesh: Mesh) -> None:
    await own_mesh.apply(trigger(when='event.body.ref == "main"'))
    reply = await fire(own_mesh, event={"body": {"ref": "other"}})
    assert reply == FireReply(ignored='`event.body.ref == "main"` does not hold')
    assert (await own_mesh.http.get("/api/v1/triggers/t/firings")).json()["items"] == []
    assert "muster_firing_ignored_total 1.0" in (await own_mesh.http.get("/metrics")).text


@pytest.mark.parametrize(
    ("fields", "event", "words"),
    [
        ({"when": 'event.body.ref == "main"'}, {"body": {}}, "there is no `event.body.ref`"),
        (
            {"inputs": {"who": "{{ event.body.who.name }}"}},
            {"body": {"who": {}}},
            "inputs.who: there is no `event.body.who.name`",
        ),
        ({"inputs": {"times": "{{ event.body.n }}"}}, {"body": {"n": "many"}}, "inputs.times"),
        ({"target": {"where": 'element.name == "nobody"'}}, {"body": {}}, "no element matches"),
        ({"target": {"where": "true", "count": 3}}, {"body": {}}, "only 1 of 3"),
        ({}, {"body": 2**70}, ""),
    ],
    ids=str,
)
async def test_an_event_that_cannot_become_orders_is_kept_with_the_reason(
    own_mesh: Mesh, fields: dict[str, Any], event: dict[str, Any], words: str
) -> None:
    await own_mesh.apply(trigger(**fields))
    reply = await fire(own_mesh, event=event)
    assert words in reply.reason
    assert reply.state is (FiringState.REJECTED if words else FiringState.FIRED)
    (kept,) = (await own_mesh.http.get("/api/v1/triggers/t/firings")).json()["items"]
    assert (kept["event"], kept.get("reason", "")) == (event, reply.reason)


async def test_an_event_that_does_not_fit_in_a_record_is_not_lost(own_mesh: Mesh) -> None:
    await own_mesh.apply(trigger())
    event = {"id": "big", "body": "x" * 7_990_000}
    request = FireRequest(trigger="t", event=event, key="big")
    reply = await own_mesh.broker.commands.firings.fire(
        msgspec.structs.replace(request, event={**event, "more": "x" * 500_000})
    )
    assert (reply.state, "more than the log takes" in reply.reason) == (FiringState.REJECTED, True)
    assert (await own_mesh.http.get(f"/api/v1/firings/{reply.firing}")).json()["event"] == {"id": "big"}


@pytest.mark.parametrize("fields", [{}, {"rejected": "it was too large"}, {"depth": 9}], ids=str)
async def test_an_event_that_cannot_be_written_is_not_lost(own_mesh: Mesh, fields: dict[str, Any]) -> None:
    await own_mesh.apply(trigger())
    request = FireRequest(trigger="t", event={"id": "odd", "body": object()}, **fields)
    reply = await own_mesh.broker.commands.firings.fire(request)
    assert (reply.state, reply.firing != "") == (FiringState.REJECTED, True)
    assert (await own_mesh.http.get(f"/api/v1/firings/{reply.firing}")).json()["event"] == {"id": "odd"}


async def test_an_event_as_deep_as_may_be_can_be_read_wherever_it_went(own_mesh: Mesh) -> None:
    await own_mesh.apply(trigger(inputs={"who": "{{ event.body | string }}"}))
    body = json.loads("[" * DEEPEST + "]" * DEEPEST)
    reply = await fire(own_mesh, event={"body": body})
    assert (reply.state, (await order(own_mesh, reply.orders[0]))["inputs"]["who"]) == (FiringState.FIRED, str(body))
    assert (await ask(own_mesh, "firings.get", {"id": reply.firing}))["event"]["body"] == body


async def test_a_blueprint_that_a_trigger_or_a_parent_uses_is_not_deleted(own_mesh: Mesh) -> None:
    child = {"name": "t", "uses": "order", "with": {"blueprint": "hello"}}
    await own_mesh.apply(trigger(), {"kind": "blueprint", "name": "parent", "tasks": [child]})
    refused = await own_mesh.http.delete("/api/v1/blueprints/hello")
    assert refused.status_code == 409
    assert "blueprint hello is used by blueprint parent, trigger t" in refused.json()["detail"]
    for path in ("triggers/t", "blueprints/parent", "blueprints/hello"):
        assert (await own_mesh.http.delete(f"/api/v1/{path}")).status_code == 204


async def test_an_unknown_disabled_or_changed_trigger_does_not_fire(own_mesh: Mesh) -> None:
    assert "there is no trigger 't'" in str(await ask(own_mesh, "firings.create", FireRequest(trigger="t", event={})))
    await own_mesh.apply(trigger(enabled=False))
    assert "disabled" in str(await ask(own_mesh, "firings.create", FireRequest(trigger="t", event={})))
    await own_mesh.apply(trigger())
    assert await fire(own_mesh, version=1) == FireReply(stale=True)
    assert (await fire(own_mesh, version=2)).firing
    with pytest.raises(NotFoundError):
        own_mesh.broker.commands.firings.definition("nope")


async def test_triggers_that_set_each_other_off_are_stopped(own_mesh: Mesh) -> None:
    await own_mesh.apply(trigger())
    assert (await fire(own_mesh, depth=8)).state is FiringState.FIRED
    stopped = await fire(own_mesh, depth=9)
    assert stopped.state is FiringState.REJECTED
    assert "9 firings have caused one another" in stopped.reason
    assert (await fire(own_mesh, depth=10)).ignored
    (event,) = await events(own_mesh, "firing.stopped")
    assert event["data"]["chain"] == 10
    assert event["subject"] == stopped.firing


async def test_the_body_becomes_inputs_where_the_trigger_says_so(own_mesh: Mesh) -> None:
    await own_mesh.apply(trigger(merge_event=True, inputs={"who": "me"}))
    reply = await fire(own_mesh, event={"body": {"who": "you", "times": 7, "other": 1}})
    found = await order(own_mesh, reply.orders[0])
    assert found["inputs"] == {"who": "me", "times": 7}
    assert (await fire(own_mesh, event={"body": "text"})).state is FiringState.FIRED


async def test_what_the_trigger_says_is_stronger_than_what_the_element_says(own_mesh: Mesh) -> None:
    machines = [{"kind": "machine", "name": name, "params": {"who": name, "times": 5}} for name in ("a", "b")]
    await own_mesh.apply(*machines, trigger(target={"where": "'who' in element.params", "all": True}))
    await own_mesh.apply(trigger("u", inputs={"times": 2}, target={"where": "'who' in element.params", "all": True}))
    for name, times in (("t", 5), ("u", 2)):
        reply = await fire(own_mesh, trigger=name)
        found = [await order(own_mesh, ident) for ident in reply.orders]
        assert [each["element"] for each in found] == ["a", "b"]
        assert [each["inputs"] for each in found] == [{"who": who, "times": times} for who in ("a", "b")]
        assert found[0]["sources"] == {"who": "element", "times": "element" if times == 5 else "trigger"}


async def test_a_trigger_without_templates_follows_what_changes(own_mesh: Mesh) -> None:
    await own_mesh.apply(trigger(), trigger("u", target={"where": "'who' in element.params", "all": True}))

    async def made(name: str) -> list[Any]:
        reply = await fire(own_mesh, trigger=name)
        found = [await order(own_mesh, ident) for ident in reply.orders]
        return [(each["element"], each["version"], each["inputs"]) for each in found] or [reply.reason]

    assert await made("t") == await made("t") == [("web01", 1, {"who": "you", "times": 1})]
    assert (await made("u"))[0].startswith("no element matches")
    await own_mesh.apply({"kind": "machine", "name": "web01", "params": {"who": "web"}})
    assert await made("t") == await made("u") == [("web01", 1, {"who": "web", "times": 1})]
    await own_mesh.apply({**BLUEPRINT, "inputs": {"times": {"type": "integer", "default": 3}}})
    assert await made("t") == [("web01", 2, {"times": 3})]
    await own_mesh.apply(trigger(inputs={"times": 9}))
    assert await made("t") == [("web01", 2, {"times": 9})]


async def test_a_trigger_can_be_let_go_off_by_hand(own_mesh: Mesh) -> None:
    await own_mesh.apply(trigger(inputs={"who": "{{ event.body.who }}"}, when='event.kind == "manual"'))
    path = "/api/v1/triggers/t/fire"
    answer = await own_mesh.http.post(path, json={"who": "Ada"}, headers={"Idempotency-Key": "k"})
    assert (answer.status_code, answer.json()["state"]) == (202, "fired")
    again = await own_mesh.http.post(path, json={"who": "Ada"}, headers={"Idempotency-Key": "k"})
    assert (again.status_code, again.json()["duplicate"]) == (200, True)
    assert again.json()["orders"] == answer.json()["orders"]
    empty = await own_mesh.http.post(path)
    assert (empty.status_code, empty.json()["state"]) == (202, "rejected")
    assert (await own_mesh.http.post(path, content=b"{")).status_code == 400
    assert (await own_mesh.http.post("/api/v1/triggers/nope/fire")).status_code == 404
    firings = (await own_mesh.http.get("/api/v1/triggers/t/firings", params={"limit": 1})).json()
    assert (firings["items"][0]["state"], firings["items"][0]["by"]) == ("rejected", "http")
    rest = (await own_mesh.http.get("/api/v1/triggers/t/firings", params={"cursor": firings["next"]})).json()
    assert ([each["state"] for each in rest["items"]], rest["next"]) == (["fired"], None)


async def test_by_hand_an_event_has_its_provider_s_fields_too(own_mesh: Mesh) -> None:
    tokyo, branch = {"cron": "@daily", "timezone": "Asia/Tokyo"}, 'event.branch == "main"'
    await own_mesh.apply(
        trigger("cron", provider="cron", **{"with": tokyo}, when='event.local.endsWith("+09:00")'),
        trigger("gitlab", provider="gitlab", **{"with": {"auth": "none"}}, when=branch),
        trigger("nats", provider="nats", **{"with": {"subject": "shop.>"}}, inputs={"who": "{{ event.subject }}"}),
    )
    body = {"object_kind": "push", "ref": "refs/heads/main", "before": "b1", "after": "a1"}
    for name in ("cron", "gitlab", "nats"):
        answer = await own_mesh.http.post(f"/api/v1/triggers/{name}/fire", json=body)
        assert (answer.status_code, answer.json().get("state")) == (202, "fired"), answer.text


async def test_what_beyond_max_open_is_skipped_waits_or_replaces(own_mesh: Mesh) -> None:
    await own_mesh.apply(
        trigger("skip", max_open=1, on_overlap="skip"),
        trigger("queue", max_open=1),
        trigger("replace", max_open=1, on_overlap="replace"),
    )
    first, second = await fire(own_mesh, trigger="skip"), await fire(own_mesh, trigger="skip")
    assert (first.state, second.state, second.reason) == (
        FiringState.FIRED,
        FiringState.SKIPPED,
        "overlap: 1 of its orders are open",
    )
    first, second = await fire(own_mesh, trigger="queue"), await fire(own_mesh, trigger="queue")
    waiting = await order(own_mesh, second.orders[0])
    assert (waiting["state"], waiting["reason"]) == ("queued", "overlap")
    assert "max_open" in (await own_mesh.http.get(f"/api/v1/orders/{waiting['id']}/explain")).json()["waits"]
    await own_mesh.http.post(f"/api/v1/orders/{first.orders[0]}/cancel")
    assert (await order(own_mesh, waiting["id"]))["state"] == "offered"
    first, second = await fire(own_mesh, trigger="replace"), await fire(own_mesh, trigger="replace")
    replaced = await order(own_mesh, first.orders[0])
    assert (replaced["state"], replaced["reason"]) == ("cancelled", "cancelled by trigger replace")
    assert (await order(own_mesh, second.orders[0]))["state"] == "offered"


async def test_a_trigger_with_a_cooldown_does_not_go_off_twice_at_once(own_mesh: Mesh) -> None:
    await own_mesh.apply(trigger(cooldown="1h"))
    assert (await fire(own_mesh)).state is FiringState.FIRED
    second = await fire(own_mesh)
    assert (second.state, second.orders) == (FiringState.SKIPPED, ())
    assert "cooldown" in second.reason


async def test_an_order_of_a_firing_can_be_explained_and_retried(own_mesh: Mesh) -> None:
    await own_mesh.apply(trigger())
    reply = await fire(own_mesh, event={"body": {"secret": 1}})
    path = f"/api/v1/orders/{reply.orders[0]}"
    await own_mesh.http.post(f"{path}/cancel")
    retried = (await own_mesh.http.post(f"{path}/retry")).json()
    assert (retried["state"], retried["firing"], retried["chain"]) == ("offered", reply.firing, 1)
    history = (await own_mesh.http.get(f"{path}/explain")).json()["history"]
    assert [each["type"] for each in history] == ["fired", "cancel_requested", "retried"]
    assert history[0]["data"]["trigger"] == "t"
    assert "event" not in history[0]["data"]


async def test_child_orders_remember_how_many_firings_stand_above_them(own_mesh: Mesh) -> None:
    await own_mesh.apply(trigger())
    reply = await fire(own_mesh, depth=4)
    child = await own_mesh.order(parent=reply.orders[0])
    assert (child["chain"], child["trigger"]) == (5, None)
    reported = [event for event in await events(own_mesh, "order.created") if event["subject"] == child["id"]]
    assert reported[0]["data"]["chain"] == 5


async def test_trigger_services_learn_of_triggers_from_a_bucket(own_mesh: Mesh) -> None:
    await own_mesh.apply(trigger("a.b", **{"with": {"tone": "high"}}), trigger("u", enabled=False))
    bucket = await own_mesh.nats.jetstream().key_value(names.TRIGGER_BUCKET)

    async def kept(name: str) -> Definition | None:
        try:
            return msgspec.json.decode((await bucket.get(names.key(name))).value or b"", type=Definition)
        except KeyNotFoundError:
            return None

    first = await eventually(lambda: kept("a.b"))
    assert first is not None
    assert (first.name, first.with_, first.enabled, first.version) == ("a.b", {"tone": "high"}, True, 1)
    assert first == msgspec.convert(await ask(own_mesh, "triggers.get", {"name": "a.b"}), Definition)
    other = await eventually(lambda: kept("u"))
    assert other is not None
    assert not other.enabled
    await own_mesh.http.delete("/api/v1/triggers/a.b")

    async def gone() -> bool:
        return await kept("a.b") is None

    await eventually(gone)


async def test_a_new_leader_fixes_the_bucket(own_mesh: Mesh) -> None:
    await own_mesh.apply(trigger("a"), trigger("b"))
    bucket = await own_mesh.nats.jetstream().key_value(names.TRIGGER_BUCKET)

    async def keys() -> list[str]:
        try:
            return sorted(await bucket.keys())
        except NoKeysError:
            return []

    async def both() -> bool:
        return await keys() == ["a", "b"]

    await eventually(both)
    await bucket.put("gone", b"{}")
    await bucket.put("a", b"{}")
    await bucket.delete("b")
    own_mesh.broker.assignments.observe_everything()

    async def fixed() -> bool:
        return await both() and b'"a"' in ((await bucket.get("a")).value or b"")

    await eventually(fixed)


async def test_events_are_reported_in_pages_and_by_time(own_mesh: Mesh) -> None:
    await own_mesh.apply(trigger())
    end = (await ask(own_mesh, "events.list", {"limit": 0}))["next"]
    for _ in range(3):
        await fire(own_mesh)
    page = await ask(own_mesh, "events.list", {"after": end, "kinds": ["firing"], "limit": 2})
    assert [each["kind"] for each in page["items"]] == ["firing.fired"] * 2
    assert page["next"] == page["items"][-1]["id"]
    rest = await ask(own_mesh, "events.list", {"after": page["next"], "kinds": ["firing.fired", "order.failed"]})
    assert len(rest["items"]) == 1
    assert rest["next"] == (await ask(own_mesh, "events.list", {"limit": 0}))["next"]
    since = await ask(own_mesh, "events.list", {"since": page["items"][0]["time"], "kinds": ["firing"]})
    assert [each["id"] for each in since["items"]] == [page["items"][1]["id"], rest["items"][0]["id"]]
    later = await ask(own_mesh, "events.list", {"since": "2100-01-01T00:00:00Z"})
    assert (later["items"], later["next"]) == ([], rest["next"])


async def test_a_schedule_reports_its_next_times_and_its_last(own_mesh: Mesh) -> None:
    every_hour = {"with": {"cron": "0 * * * *", "timezone": "Asia/Kolkata"}, "provider": "cron"}
    await own_mesh.apply(trigger("hourly", **every_hour), trigger("t"))
    items = (await own_mesh.http.get("/api/v1/triggers/hourly/next", params={"n": 3})).json()["items"]
    assert [item["due"][13:] for item in items] == [":30:00Z"] * 3
    assert [item["local"][13:] for item in items] == [":00:00+05:30"] * 3
    assert (await ask(own_mesh, "triggers.next", {"name": "hourly", "n": 3}))["items"] == items
    assert (await own_mesh.http.get("/api/v1/triggers/t/next")).status_code == 409
    assert await ask(own_mesh, "triggers.due", {}) == {"last": {}, "next": None}
    for due in ("2026-01-01T01:00:00Z", "2026-01-01T02:00:00Z", "2026-01-01T00:00:00Z"):
        await fire(own_mesh, trigger="hourly", key=due, due=datetime.fromisoformat(due))
    last = {"hourly": "2026-01-01T02:00:00Z"}
    assert await ask(own_mesh, "triggers.due", {"limit": 1}) == {"last": last, "next": "hourly"}
    assert await ask(own_mesh, "triggers.due", {"after": "hourly"}) == {"last": {}, "next": None}
    found = (await own_mesh.http.get("/api/v1/triggers/hourly")).json()
    assert (found["last_due"], found["open"]) == ("2026-01-01T02:00:00Z", 3)


async def test_a_broker_that_starts_anew_knows_how_triggers_stand(fresh_nats: Nats, tmp_path: Path) -> None:
    async with running(fresh_nats, tmp_path) as first:
        await first.apply(BLUEPRINT, {"kind": "machine", "name": "web01"}, trigger(cooldown="1h"))
        made = await fire(first, key="one", due=datetime(2026, 1, 1, tzinfo=UTC))
        await first.http.get("/api/v1/orders")  # so that it is in the tables
    async with running(fresh_nats, tmp_path) as second:
        assert (await ask(second, "triggers.due", {}))["last"] == {"t": "2026-01-01T00:00:00Z"}
        again = await fire(second, key="one")
        assert (again.duplicate, again.firing, again.orders) == (True, made.firing, made.orders)
        assert (await fire(second, key="two")).state is FiringState.SKIPPED


async def test_tables_that_were_deleted_are_rebuilt_row_for_row(fresh_nats: Nats, tmp_path: Path) -> None:
    projection = tmp_path / "projection.sqlite"
    async with running(fresh_nats, tmp_path) as first:
        where = {"where": "element.online || true", "queue": True}
        await first.apply(BLUEPRINT, {"kind": "machine", "name": "web01"})
        await first.apply(trigger(max_open=2, on_overlap="replace"), trigger("q", target=where, max_open=1))
        for number in range(12):
            await fire(
                first, trigger="tq"[number % 2], key=str(number // 3), event={"body": {"n": number}}, depth=number
            )
        await first.http.delete("/api/v1/triggers/q")
        await first.http.get("/api/v1/orders")  # so that it is in the tables
    before = record.rows(projection)
    assert len(before["firings"]) > 5
    record.remove(projection)
    async with running(fresh_nats, tmp_path) as second:
        await second.http.get("/api/v1/orders")
    assert not record.difference(before, record.rows(projection))
