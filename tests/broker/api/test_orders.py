"""Orders over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from muster.mesh import names, records
from muster.mesh.jetstream import Publisher
from muster.mesh.model import Job, JobState, OrderState
from tests.broker.api.conftest import Mesh
from tests.kit.waiting import deadline

pytestmark = pytest.mark.asyncio(loop_scope="session")

FIELDS = {
    *("id", "blueprint", "version", "element", "pool", "state", "reason", "inputs", "outputs", "attempt"),
    *("created_by", "created_at", "started_at", "finished_at", "jobs"),
}


async def finish(mesh: Mesh, order: dict[str, Any], state: OrderState = OrderState.FINISHED, attempt: int = 1) -> None:
    """Do what an agent does: claim the order and report its end."""
    element, ident = order["element"], order["id"]
    async with Publisher(mesh.nats) as publisher:
        for record in (
            records.Claimed(order=ident, attempt=attempt, element=element, agent="test"),
            records.Done(
                order=ident,
                attempt=attempt,
                state=state,
                outputs={"said": "hello"},
                jobs=(Job(name="greet", state=JobState.FINISHED, exit_code=0),),
            ),
        ):
            await publisher.publish(records.subject(record, element), records.encode(record))
        await mesh.http.get(f"/api/v1/orders/{ident}", params={"wait": 10})


async def test_an_order_answers_with_all_its_fields(mesh: Mesh) -> None:
    order = await mesh.order(inputs={"who": "world"})
    assert set(order) >= FIELDS
    assert (order["element"], order["inputs"]) == ("web01", {"who": "world", "times": 1})
    assert order["created_at"].endswith("Z")
    found = (await mesh.http.get(f"/api/v1/orders/{order['id']}")).json()
    assert set(found) >= FIELDS


async def test_orders_are_listed_newest_first_in_pages(mesh: Mesh) -> None:
    made = [(await mesh.order(labels={"page": "yes"}))["id"] for _ in range(3)]
    page = (await mesh.http.get("/api/v1/orders", params={"limit": 2})).json()
    rest = (await mesh.http.get("/api/v1/orders", params={"limit": 2, "cursor": page["next"]})).json()
    assert [order["id"] for order in page["items"] + rest["items"]][:3] == made[::-1]


async def test_orders_are_listed_by_state_element_and_time(mesh: Mesh) -> None:
    order = await mesh.order()
    await finish(mesh, order)
    params = {"state": "finished", "element": "web01", "blueprint": "hello", "since": "1h"}
    items = (await mesh.http.get("/api/v1/orders", params=params)).json()["items"]
    assert order["id"] in {item["id"] for item in items}
    none = (await mesh.http.get("/api/v1/orders", params={**params, "since": "2100-01-01T00:00:00Z"})).json()
    assert none == {"items": [], "next": None}


async def test_a_unique_start_of_an_id_is_enough(mesh: Mesh) -> None:
    order = await mesh.order()
    found = await mesh.http.get(f"/api/v1/orders/{order['id'][:10]}")
    assert found.json()["id"] == order["id"]


async def test_an_ambiguous_start_of_an_id_is_refused_with_candidates(mesh: Mesh) -> None:
    starts = set[str]()
    while True:  # ids are random base 32, so a start of one letter is shared after a while
        ident = (await mesh.order())["id"]
        if ident[0] in starts:
            break
        starts.add(ident[0])
    answer = await mesh.http.get(f"/api/v1/orders/{ident[0]}")
    assert answer.status_code == 409
    assert ident[:1] in answer.json()["detail"]


async def test_an_idempotency_key_makes_a_post_safe_to_repeat(mesh: Mesh) -> None:
    body, headers = {"blueprint": "hello", "on": "web01"}, {"Idempotency-Key": "once-only"}
    answers = [await mesh.http.post("/api/v1/orders", json=body, headers=headers) for _ in range(3)]
    assert len({answer.json()["orders"][0]["id"] for answer in answers}) == 1
    assert {answer.status_code for answer in answers} == {201}


async def test_a_key_that_is_no_key_is_refused(mesh: Mesh) -> None:
    body = {"blueprint": "hello", "on": "web01"}
    answer = await mesh.http.post("/api/v1/orders", json=body, headers={"Idempotency-Key": "k" * 256})
    assert answer.status_code == 400
    assert "Idempotency-Key" in answer.json()["detail"]


@pytest.mark.parametrize("time", ["2030-01-01T10:00:00", "2030-01-01 10:00:00"])
async def test_a_time_that_does_not_say_where_is_refused(mesh: Mesh, time: str) -> None:
    """RFC 3339 knows no such time, and nobody could say when it has come."""
    body = {"blueprint": "hello", "on": "web01", "not_before": time}
    answer = await mesh.http.post("/api/v1/orders", json=body)
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["path"] == "not_before"
    assert "timezone" in error["message"]


async def test_a_time_that_is_beyond_the_calendar_in_utc_is_refused(mesh: Mesh) -> None:
    body = {"blueprint": "hello", "on": "web01", "not_before": "9999-12-31T23:59:59-01:00"}
    answer = await mesh.http.post("/api/v1/orders", json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["path"] == "not_before"


async def test_a_time_is_shown_in_utc_in_every_zone(mesh: Mesh) -> None:
    order = await mesh.order(not_before="2100-01-01T02:00:00+02:00")
    assert (order["state"], order["reason"], order["not_before"]) == ("queued", "schedule", "2100-01-01T00:00:00Z")


async def test_a_dry_run_makes_nothing(mesh: Mesh) -> None:
    await mesh.apply({"kind": "machine", "name": "dry"})
    body = {"blueprint": "hello", "on": "dry", "inputs": {"times": 2}}
    answer = await mesh.http.post("/api/v1/orders", params={"dry_run": "true"}, json=body)
    assert answer.status_code == 200
    assert answer.json()["orders"][0]["inputs"] == {"who": "you", "times": 2}
    assert (await mesh.http.get("/api/v1/orders", params={"element": "dry"})).json()["items"] == []


async def test_waiting_for_an_order_answers_when_it_is_final(mesh: Mesh) -> None:
    order = await mesh.order()
    waiting = asyncio.create_task(mesh.http.get(f"/api/v1/orders/{order['id']}", params={"wait": 30}))
    await finish(mesh, order)
    async with deadline(5, "the answer"):
        found = (await waiting).json()
    assert (found["state"], found["outputs"]) == ("finished", {"said": "hello"})


async def test_waiting_in_vain_answers_with_the_order_as_it_is(mesh: Mesh) -> None:
    order = await mesh.order()
    found = await mesh.http.get(f"/api/v1/orders/{order['id']}", params={"wait": 0.05})
    assert found.json()["state"] == "offered"


async def test_jobs_history_and_explanation_are_there(mesh: Mesh) -> None:
    order = await mesh.order()
    await finish(mesh, order)
    base = f"/api/v1/orders/{order['id']}"
    jobs = (await mesh.http.get(f"{base}/jobs")).json()
    assert [(job["name"], job["state"], job["exit_code"]) for job in jobs["items"]] == [("greet", "finished", 0)]
    history = (await mesh.http.get(f"{base}/history")).json()["items"]
    assert [entry["type"] for entry in history] == ["created", "claimed", "done"]
    assert [entry["actor"] for entry in history] == [names.BROKER, "web01", "web01"]
    explained = (await mesh.http.get(f"{base}/explain")).json()
    assert explained["order"]["id"] == order["id"]


async def test_cancel_and_retry(mesh: Mesh) -> None:
    order = await mesh.order()
    base = f"/api/v1/orders/{order['id']}"
    cancelled = await mesh.http.post(f"{base}/cancel")
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    again = await mesh.http.post(f"{base}/cancel")
    assert again.status_code == 409
    retried = await mesh.http.post(f"{base}/retry")
    assert retried.json()["state"] in {"queued", "offered"}


async def test_cancel_and_retry_are_safe_to_repeat_with_a_key(mesh: Mesh) -> None:
    order = await mesh.order()
    base = f"/api/v1/orders/{order['id']}"

    async def post(verb: str, key: str) -> tuple[int, str]:
        answer = await mesh.http.post(f"{base}/{verb}", headers={"Idempotency-Key": key})
        return answer.status_code, answer.json().get("state", "")

    assert await post("cancel", "stop") == (200, "cancelled")
    assert await post("cancel", "stop") == (200, "cancelled")
    assert await post("cancel", "another") == (409, "")
    assert await post("retry", "go") == (200, "offered")
    assert await post("retry", "go") == (200, "offered")
    assert await post("cancel", "stop again") == (200, "cancelled")
    assert await post("retry", "go") == (200, "cancelled"), (
        "the retry that was asked for has been; this is not another one"
    )
    history = (await mesh.http.get(f"{base}/history")).json()["items"]
    assert [each["type"] for each in history] == ["created", "cancel_requested", "retried", "cancel_requested"]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"blueprint": "helo", "on": "web01"}, 404, "hello"),
        ({"blueprint": "hello", "on": "web0"}, 404, "web01"),
        ({"blueprint": "hello", "pool": "wob"}, 404, "web"),
        ({"blueprint": "hello", "where": "element.kidn == 'machine'", "all": True}, 422, "kidn"),
        ({"blueprint": "hello", "on": "web01", "inputs": {"times": 0, "hwo": 1}}, 422, "who"),
        ({"blueprint": "hello"}, 400, "on"),
    ],
)
async def test_what_cannot_be_made_is_reported(mesh: Mesh, body: dict[str, Any], status: int, words: str) -> None:
    answer = await mesh.http.post("/api/v1/orders", json=body)
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, answer.json()["status"]) == (status, status)
    assert words in answer.text
