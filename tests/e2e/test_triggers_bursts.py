"""Of a burst the last event makes the order, whatever dies meanwhile, and whoever takes the events."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_asyncio

from tests.kit.blueprints import blueprint, trigger
from tests.kit.roles import Roles
from tests.kit.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def bursts(mesh: Roles) -> None:
    """What waits here."""
    await mesh.apply(blueprint("build", {"name": "nothing", "uses": "noop"}, inputs={"n": {}}))
    inputs = {"n": "{{ event.body.n }}"}
    await mesh.apply(trigger("burst", "webhook", "build", inputs=inputs, key="event.body.ref", debounce="2s"))


@pytest.mark.timeout(120)
async def test_a_burst_that_is_pending_outlives_its_broker(mesh: Roles) -> None:
    for number in range(3):
        answer = await mesh.http.post(f"{mesh.hooks}/hooks/burst", json={"ref": "main", "n": number})
        assert (answer.status_code, answer.json()["state"]) == (202, "pending"), answer.text
    await mesh.restart("broker")

    async def over() -> list[dict[str, Any]] | None:
        found = await mesh.firings("burst")
        return found if found[0]["state"] == "fired" else None

    found = await eventually(over, 60)
    assert [firing["state"] for firing in found] == ["fired", "superseded", "superseded"]
    assert (await mesh.final(found[0]["orders"][0]))["inputs"] == {"n": 2}
    ran = await mesh.cli("firings", "burst")
    assert f"superseded by firing {found[0]['id']}" in ran.stdout


async def test_what_is_pending_is_shown(mesh: Roles) -> None:
    hour = {"quiet": "1h", "at_most": "1h"}
    await mesh.apply(trigger("slow", "webhook", "build", inputs={"n": 1}, key="event.body.ref", debounce=hour))
    ran = await mesh.cli("fire", "slow", "--event", "-", stdin=b"{ref: dev}")
    assert (ran.code, "pending: it makes its orders at" in ran.stdout) == (0, True), ran
    described = (await mesh.cli("describe", "trigger", "slow")).stdout
    pending, recent = described.partition("Pending")[2].split("Recent firings")
    assert "dev" in pending
    assert "pending" in recent
    await mesh.http.delete("/api/v1/triggers/slow")
    (firing,) = await mesh.firings("slow")
    assert (firing["state"], "deleted" in firing["reason"]) == ("rejected", True)
