"""What waits until a burst is over is to be seen."""

from __future__ import annotations

import pytest
import pytest_asyncio

from tests.kit.blueprints import blueprint, trigger
from tests.kit.roles import Roles

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def bursts(mesh: Roles) -> None:
    """What waits here."""
    await mesh.apply(blueprint("build", {"name": "nothing", "uses": "noop"}, inputs={"n": {}}))


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
