"""A request for more orders than can be put on the log together."""

from __future__ import annotations

from typing import Any

import msgspec

from muster.mesh import names
from tests.broker.api.conftest import Mesh
from tests.broker.api.test_problems import problem
from tests.kit.waiting import eventually

MANY = 1001
EVERYONE = {"where": 'element.name.startsWith("n")', "all": True}
HOOK = {"kind": "trigger", "name": "t", "provider": "webhook", "with": {"auth": "none"}, "blueprint": "hello"}


async def listed(mesh: Mesh, path: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (
        await mesh.http.get(f"/api/v1/{path}", headers={"Accept": "application/json"})
    ).json()["items"]
    return items


async def test_the_limit_is_reported_and_a_trigger_has_none(own_mesh: Mesh) -> None:
    await own_mesh.apply({**HOOK, "target": EVERYONE}, *({"kind": "machine", "name": f"n{n}"} for n in range(MANY)))
    body = {"blueprint": "hello", **EVERYONE}
    for query in ("", "?dry_run=true"):
        reported = problem(await own_mesh.http.post(f"/api/v1/orders{query}", json=body), 409)["detail"]
        assert "1001 elements match, and one request makes at most 1000 orders" in reported

    async def rejected() -> list[dict[str, Any]]:
        return await listed(own_mesh, "events?kind=inbox.rejected")

    await own_mesh.nats.publish(names.INBOX_ORDERS, msgspec.json.encode(body))
    await eventually(rejected)
    assert not await listed(own_mesh, "orders")
    some = {"blueprint": "hello", "where": EVERYONE["where"], "count": MANY - 1}
    assert len((await own_mesh.http.post("/api/v1/orders", json=some)).json()["orders"]) == MANY - 1
    fired = (await own_mesh.http.post("/api/v1/triggers/t/fire")).json()
    assert len(fired["orders"]) == MANY
