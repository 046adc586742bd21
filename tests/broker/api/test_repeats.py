"""A request with a key is answered with what it made, even if it would make something else now."""

from __future__ import annotations

from tests.broker.api.conftest import Mesh


async def test_a_key_may_be_a_firings_id(own_mesh: Mesh) -> None:
    """One more order for each firing: what the firing made, or could not make, is not the answer."""
    bell = {"kind": "trigger", "name": "bell", "provider": "webhook", "with": {"auth": "none"}, "blueprint": "hello"}
    for inputs in ({}, {"who": "{{ event.body.nothing }}"}):
        await own_mesh.apply({**bell, "target": {"on": "web01"}, "inputs": inputs})
        fired = (await own_mesh.http.post("/api/v1/triggers/bell/fire")).json()
        body, headers = {"blueprint": "hello", "on": "web01"}, {"Idempotency-Key": fired["firing"]}
        answer = await own_mesh.http.post("/api/v1/orders", json=body, headers=headers)
        (order,) = answer.json()["orders"]
        assert order["id"] not in fired.get("orders", [])


async def test_a_key_is_for_one_kind_of_request(own_mesh: Mesh) -> None:
    base = f"/api/v1/orders/{(await own_mesh.order())['id']}"
    headers = {"Idempotency-Key": "again"}
    assert (await own_mesh.http.post(f"{base}/cancel", headers=headers)).json()["state"] == "cancelled"
    assert (await own_mesh.http.post(f"{base}/retry", headers=headers)).json()["state"] == "offered"


async def test_a_repeated_post_is_answered_with_what_it_made_though_more_or_less_matches_now(own_mesh: Mesh) -> None:
    await own_mesh.apply({"kind": "machine", "name": "web02"})
    body = {"blueprint": "hello", "where": 'element.name.startsWith("web")', "all": True}

    async def post() -> tuple[int, list[str]]:
        answer = await own_mesh.http.post("/api/v1/orders", json=body, headers={"Idempotency-Key": "all"})
        return answer.status_code, [order["id"] for order in answer.json()["orders"]]

    status, made = await post()
    assert (status, len(made)) == (201, 2)
    await own_mesh.apply({"kind": "machine", "name": "web03"})
    assert await post() == (201, made)
    for name in ("web01", "web02", "web03"):
        await own_mesh.apply({"kind": "machine", "name": name, "mode": "workflow"})
    assert (await own_mesh.http.delete("/api/v1/blueprints/hello")).status_code == 204
    assert await post() == (201, made)
