"""Numbers of every NATS endpoint, out of any bounds: refused in words, never an exception."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from muster.broker.operations.table import ON_NATS
from muster.mesh.version import PROTOCOL
from tests.broker.api.conftest import BLUEPRINT, Mesh, running
from tests.kit.servers import Nats

pytestmark = pytest.mark.asyncio(loop_scope="session")

AGENT = {"element": "web01", "agent": "a1"}
ORDER = {"blueprint": "hello", "where": "true"}
BODIES: dict[str, dict[str, Any]] = {
    "muster.api.orders.create": {**ORDER, "count": 1},
    "muster.api.orders.preview": {**ORDER, "count": 1},
    "muster.api.orders.get": {"id": "x"},
    "muster.api.orders.list": {"limit": 1, "cursor": 1, "since": 1},
    "muster.api.orders.cancel": {"id": "x"},
    "muster.api.orders.retry": {"id": "x"},
    "muster.api.orders.explain": {"id": "x"},
    "muster.api.objects.apply": {"kind": "machine", "name": "bounds", "slots": 1},
    "muster.api.objects.get": {"kind": "machine", "name": "web01"},
    "muster.api.objects.list": {"kind": "machine", "limit": 1, "cursor": 1},
    "muster.api.objects.delete": {"kind": "machine", "name": "nobody"},
    "muster.api.elements.mode": {"element": "nobody", "mode": "workflow"},
    "muster.api.elements.drain": {"element": "nobody"},
    "muster.api.elements.undrain": {"element": "nobody"},
    "muster.api.elements.join": {**AGENT, "protocol": PROTOCOL},
    "muster.api.firings.create": {"trigger": "bell", "event": {"body": 1}, "version": 1, "depth": 1, "due": 1},
    "muster.api.firings.get": {"id": "x"},
    "muster.api.firings.list": {"trigger": "bell", "limit": 1, "cursor": 1},
    "muster.api.triggers.get": {"name": "bell"},
    "muster.api.triggers.due": {"after": "", "limit": 1},
    "muster.api.triggers.next": {"name": "clock", "n": 1},
    "muster.api.events.list": {"limit": 1, "after": 1, "since": 1},
    "muster.agent.web01.join": {**AGENT, "protocol": PROTOCOL},
    "muster.agent.web01.leave": {**AGENT, "protocol": PROTOCOL},
    "muster.agent.web01.resume": {**AGENT, "order": "x", "attempt": 1},
    "muster.agent.web01.create": {**ORDER, "count": 1, "parent": "x"},
    "muster.api.info": {},
}
TRIGGERS = (
    {
        "kind": "trigger",
        "name": "bell",
        "provider": "event",
        "with": {"kinds": ["order.failed"]},
        "blueprint": "hello",
        "target": {"on": "web01"},
    },
    {
        "kind": "trigger",
        "name": "clock",
        "provider": "interval",
        "with": {"every": "1h"},
        "blueprint": "hello",
        "target": {"on": "web01"},
    },
)
NUMBERS = (
    "0",
    "-1",
    "1",
    f"{2**31}",
    f"{2**63}",
    f"-{2**63}",
    f"{2**64}",
    "1" * 40,
    "9" * 5000,
    "1e400",
    "1.5",
    "true",
)
TEXTS = ('""', '"0"', '"-1"', '"99999999999999999999"', '"1.99999999999999999999"', '"999999999999h"')


async def test_no_number_is_more_than_an_endpoint_can_refuse(fresh_nats: Nats, tmp_path: Path) -> None:
    assert len(BODIES) == len(ON_NATS), "each endpoint is tried"
    async with running(fresh_nats, tmp_path) as mesh:
        await mesh.apply(BLUEPRINT, {"kind": "machine", "name": "web01"}, *TRIGGERS)
        await _try_all(mesh)


async def _try_all(mesh: Mesh) -> None:
    for subject, body in BODIES.items():
        for field in [*body, "limit"]:
            for number in (*NUMBERS, *TEXTS):
                text = json.dumps({**body, field: "HERE"}).replace('"HERE"', number).encode()
                answer = json.loads((await mesh.nats.request(subject, text, timeout=10)).data)
                error = answer.get("error") or {"status": 200, "detail": "x"}
                assert error["status"] in {200, 400, 403, 404, 409, 422}, (subject, text[:200], error)
                assert error["detail"], (subject, text[:200])


@pytest.mark.parametrize(
    ("subject", "body", "words"),
    [
        ("muster.api.triggers.due", {"limit": 0}, "0 is less than 1"),
        ("muster.api.triggers.due", {"limit": -5}, "-5 is less than 1"),
        ("muster.api.triggers.due", {"limit": 5001}, "5001 is more than 5000"),
        ("muster.api.triggers.next", {"name": "clock", "n": 0}, "0 is less than 1"),
        ("muster.api.triggers.next", {"name": "clock", "n": 10**9}, "1000000000 is more than 1000"),
        ("muster.api.firings.list", {"trigger": "bell", "limit": 0}, "0 is less than 1"),
        ("muster.api.firings.create", {"trigger": "bell", "event": {}, "depth": -1}, "-1 is less than 0"),
        ("muster.api.orders.list", {"limit": 1001}, "1001 is more than 1000"),
        ("muster.api.orders.create", {**ORDER, "count": 0}, "0"),
        ("muster.api.objects.list", {"kind": "machine", "limit": -1}, "-1 is less than 1"),
        ("muster.api.events.list", {"limit": -1}, "-1 is less than 0"),
        ("muster.agent.web01.resume", {**AGENT, "order": "x", "attempt": -1}, "-1 is less than 0"),
    ],
)
async def test_what_is_out_of_bounds_is_named_with_its_bound(
    mesh: Mesh, subject: str, body: dict[str, Any], words: str
) -> None:
    answer = json.loads((await mesh.nats.request(subject, json.dumps(body).encode(), timeout=10)).data)
    assert answer["error"]["status"] == 422
    assert words in json.dumps(answer["error"])
