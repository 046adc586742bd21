"""Duties: what the leader does, even if one of them fails."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from muster.broker.duties.wake import Wake
from muster.broker.state.world import World
from muster.mesh.records import Due
from tests.broker.api.conftest import Mesh
from tests.kit.waiting import eventually


async def test_a_duty_that_stumbles_ends_nothing_and_goes_on(own_mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    run_once, stumbles = Wake.run_once, iter([True, True])

    def stumbling(self: Wake, state: World, now: datetime) -> Iterator[Due]:
        if next(stumbles, False):
            raise TypeError("can't compare offset-naive and offset-aware datetimes")
        return run_once(self, state, now)

    monkeypatch.setattr(Wake, "run_once", stumbling)
    soon = datetime.now(UTC) + timedelta(seconds=0.2)
    order = await own_mesh.order(not_before=soon.isoformat())

    async def state() -> bool:
        answer = await own_mesh.http.get(f"/api/v1/orders/{order['id']}")
        return bool(answer.json()["state"] == "offered")

    await eventually(state)
    assert next(stumbles, None) is None
