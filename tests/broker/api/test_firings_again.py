"""An event that was sent again: what made orders is a duplicate, what made none is tried again."""

from __future__ import annotations

import asyncio

import pytest

from muster.broker.firings import MAX_ATTEMPTS
from muster.mesh.firing import FireReply, FiringState
from tests.broker.api.conftest import Mesh
from tests.broker.api.ringing import fire, trigger
from tests.kit.bell import bell

__all__ = ["bell"]

pytestmark = pytest.mark.usefixtures("bell")

DB = {"where": 'element.labels.role == "db"'}


async def sent(mesh: Mesh, key: str = "77") -> FireReply:
    """A delivery."""
    return await fire(mesh, key=key, try_again=True)


async def test_a_rejected_event_that_comes_again_is_tried_again_until_it_makes_orders(own_mesh: Mesh) -> None:
    await own_mesh.apply(trigger(target=DB))
    first, second = await sent(own_mesh), await sent(own_mesh)
    assert (first.state, second.state) == (FiringState.REJECTED, FiringState.REJECTED)
    assert first.firing != second.firing
    assert not second.duplicate
    await own_mesh.apply({"kind": "machine", "name": "db1", "labels": {"role": "db"}})
    third, fourth = await sent(own_mesh), await sent(own_mesh)
    assert (third.state, third.duplicate, len(third.orders)) == (FiringState.FIRED, False, 1)
    assert (fourth.state, fourth.duplicate, fourth.orders) == (FiringState.FIRED, True, third.orders)
    items = (await own_mesh.http.get("/api/v1/triggers/t/firings")).json()["items"]
    assert [(item["state"], item["key"]) for item in items] == [("fired", "77"), ("rejected", "77"), ("rejected", "77")]


async def test_a_trigger_that_was_made_anew_has_no_old_reasons(own_mesh: Mesh) -> None:
    await own_mesh.apply(trigger(target=DB))
    assert (await sent(own_mesh)).state is FiringState.REJECTED
    assert (await own_mesh.http.delete("/api/v1/triggers/t")).is_success
    await own_mesh.apply(trigger())
    made = await sent(own_mesh)
    assert (made.state, made.reason) == (FiringState.FIRED, "")


async def test_a_skipped_event_that_comes_again_is_tried_again(own_mesh: Mesh) -> None:
    await own_mesh.apply(trigger(max_open=1, on_overlap="skip"))
    first = await sent(own_mesh, "1")
    assert (await sent(own_mesh, "2")).state is FiringState.SKIPPED
    await own_mesh.http.post(f"/api/v1/orders/{first.orders[0]}/cancel")
    assert (await sent(own_mesh, "2")).state is FiringState.FIRED


async def test_of_deliveries_at_once_that_may_be_tried_again_one_makes_orders(own_mesh: Mesh) -> None:
    await own_mesh.apply(trigger(target=DB))
    await sent(own_mesh)
    await own_mesh.apply({"kind": "machine", "name": "db1", "labels": {"role": "db"}})
    replies = await asyncio.gather(*(sent(own_mesh) for _ in range(10)))
    assert len({reply.orders for reply in replies}) == 1
    assert sorted(reply.duplicate for reply in replies) == [False] + [True] * 9


async def test_what_is_read_again_and_was_not_sent_again_stays_a_duplicate(own_mesh: Mesh) -> None:
    """Each of several trigger services fires for the same time, or the same event of the mesh."""
    await own_mesh.apply(trigger(target=DB))
    first, second = await fire(own_mesh, key="tick"), await fire(own_mesh, key="tick")
    assert (second.duplicate, second.firing) == (True, first.firing)


async def test_an_event_is_not_tried_again_without_end(own_mesh: Mesh) -> None:
    await own_mesh.apply(trigger(target=DB))
    replies = [await sent(own_mesh) for _ in range(MAX_ATTEMPTS + 1)]
    assert [reply.duplicate for reply in replies] == [False] * MAX_ATTEMPTS + [True]
    assert replies[-1].reason == replies[0].reason
