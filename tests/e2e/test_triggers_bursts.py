"""The last event of a burst makes the order, even if a process dies meanwhile; until then the pending one is shown."""

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


@pytest.mark.timeout(120)
async def test_a_pending_burst_outlives_its_broker(mesh: Roles) -> None:
    inputs = {"n": "{{ event.body.n }}"}
    await mesh.apply(trigger("burst", "webhook", "build", inputs=inputs, key="event.body.ref", debounce="2s"))
    for number in range(3):
        answer = await mesh.http.post(f"{mesh.hooks}/hooks/burst", json={"ref": "main", "n": number})
        assert (answer.status_code, answer.json()["state"]) == (202, "pending"), answer.text
    await mesh.restart("broker")

    async def settled() -> list[dict[str, Any]]:
        found = await mesh.firings("burst")
        assert found[-1]["state"] == "fired", found
        return found

    found = await eventually(settled, 20, "an order of the burst's last event")
    assert [firing["state"] for firing in found] == ["superseded", "superseded", "fired"]
    assert (await mesh.final(found[-1]["orders"][0]))["inputs"] == {"n": 2}
    assert [firing.get("superseded_by") for firing in found] == [found[1]["id"], found[2]["id"], None]


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
