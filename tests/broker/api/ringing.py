"""Triggers that tests fire, and the requests of trigger services to a broker."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from muster.mesh.firing import FireReply, FireRequest
from tests.broker.api.conftest import Mesh


def trigger(name: str = "t", **fields: Any) -> dict[str, Any]:
    """A trigger's manifest."""
    given = {"provider": "bell", "blueprint": "hello", "target": {"on": "web01"}, **fields}
    return {"kind": "trigger", "name": name, **given}


async def ask(mesh: Mesh, service: str, body: Any) -> Any:
    """What a trigger service does."""
    reply = await mesh.nats.request(f"muster.api.{service}", msgspec.json.encode(body), timeout=10)
    return json.loads(reply.data)


async def fire(mesh: Mesh, **fields: Any) -> FireReply:
    request = FireRequest(**{"trigger": "t", "event": {"body": {}}, **fields})
    return msgspec.convert(await ask(mesh, "firings.create", request), FireReply)


async def order(mesh: Mesh, ident: str) -> dict[str, Any]:
    found: dict[str, Any] = (await mesh.http.get(f"/api/v1/orders/{ident}")).json()
    return found


async def events(mesh: Mesh, *kinds: str) -> list[dict[str, Any]]:
    page: dict[str, Any] = await ask(mesh, "events.list", {"kinds": kinds})
    return list(page["items"])
