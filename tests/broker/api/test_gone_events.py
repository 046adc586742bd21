"""Events that are no longer kept, and pages that are bounded in bytes."""

from __future__ import annotations

import msgspec
import pytest

from muster.broker.api.events import place
from tests.broker.api.conftest import Mesh
from tests.broker.api.test_problems import problem


async def _make(mesh: Mesh, count: int) -> None:
    for _ in range(count):
        await mesh.order()


async def test_events_that_are_no_longer_kept_are_gone_and_the_answer_says_where_to_continue(own_mesh: Mesh) -> None:
    await _make(own_mesh, 3)
    await own_mesh.broker.recorder.caught_up()
    seq = own_mesh.broker.state.seq - 1
    await own_mesh.broker.recorder._writer._connection.execute("DELETE FROM events WHERE seq <= ?", (seq,))
    await own_mesh.broker.recorder._writer._connection.execute(
        "UPDATE meta SET value = ? WHERE key = 'events_after'", (seq,)
    )
    for headers in ({}, {"Accept": "application/json"}):
        for after in ("1.0", f"{seq}.0"):
            answer = await own_mesh.http.get("/api/v1/events", headers=headers, params={"after": after})
            gone = problem(answer, 410)
            assert gone["after"] == str(seq)
            assert place(gone["first"])[0] > seq
    listing = {"Accept": "application/json"}
    again = await own_mesh.http.get("/api/v1/events", headers=listing, params={"after": gone["after"]})
    assert again.json()["items"][0]["id"] == gone["first"]
    from_start = await own_mesh.http.get("/api/v1/events", headers=listing, params={"after": "0"})
    assert from_start.json() == again.json(), "0 asks for all that are kept"
    refused = await own_mesh.nats.request("muster.api.events.list", b'{"after": "1.0"}', timeout=10)
    assert msgspec.json.decode(refused.data)["error"]["after"] == str(seq)


async def test_a_page_is_bounded_in_bytes(own_mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    await _make(own_mesh, 5)
    monkeypatch.setattr("muster.broker.projection.readers.PAGE_SIZE", 1000)
    for path, cursor in (("/api/v1/events", "after"), ("/api/v1/orders", "cursor")):
        found: list[str] = []
        params: dict[str, str] = {}
        while True:
            answer = (await own_mesh.http.get(path, headers={"Accept": "application/json"}, params=params)).json()
            assert 1 <= len(answer["items"]) < 5
            found += [item["id"] for item in answer["items"]]
            if answer["next"] is None:
                break
            params = {cursor: answer["next"]}
        assert len(found) == len(set(found)) >= 5
