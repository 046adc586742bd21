"""What happens, live over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from muster.broker.api.events import place
from muster.broker.feed import BACKLOG
from muster.mesh.errors import InvalidError
from muster.mesh.events import Event
from tests.broker.api.conftest import Mesh
from tests.broker.api.streams import events
from tests.broker.api.test_problems import problem
from tests.kit.waiting import deadline

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_events_come_as_they_happen(mesh: Mesh) -> None:
    await mesh.http.get(
        "/api/v1/orders", params={"limit": 1}
    )  # reads wait for the tables: what was before has been reported
    async with deadline(), events(mesh.http, "/api/v1/events") as stream:
        order = await mesh.order()
        event = await anext(stream)
        assert (event.data["kind"], event.data["subject"]) == ("order.created", order["id"])
        assert event.ident == event.data["id"]
        assert event.event == ""  # so that EventSource.onmessage gets it


async def test_a_stream_goes_on_behind_the_last_event_id(mesh: Mesh) -> None:
    async with deadline(), events(mesh.http, "/api/v1/events", params={"kind": "order.created"}) as stream:
        first = (await mesh.order())["id"]
        last = (await anext(stream)).ident
    missed = [(await mesh.order())["id"] for _ in range(3)]
    headers, params = {"Last-Event-ID": last}, {"kind": "order.created"}
    async with deadline(), events(mesh.http, "/api/v1/events", headers=headers, params=params) as stream:
        seen = [(await anext(stream)).data["subject"] for _ in range(3)]
        live = (await mesh.order())["id"]
        seen.append((await anext(stream)).data["subject"])
    assert seen == [*missed, live]
    assert first not in seen


async def test_after_does_the_same_as_the_header(mesh: Mesh) -> None:
    async with deadline(), events(mesh.http, "/api/v1/events", params={"after": "0"}) as stream:
        assert (await anext(stream)).ident


async def test_no_event_is_lost_or_doubled_between_past_and_present(mesh: Mesh) -> None:
    await _make(mesh, 20)
    params, headers = {"after": "0", "kind": "order.created"}, {"Accept": "application/json"}
    past = (await mesh.http.get("/api/v1/events", headers=headers, params={**params, "limit": 1000})).json()["items"]
    async with deadline(), events(mesh.http, "/api/v1/events", params=params) as stream:
        making = asyncio.create_task(_make(mesh, 20))
        idents = [(await anext(stream)).ident for _ in range(len(past) + 20)]
        await making
    assert len(idents) == len(set(idents))
    assert sorted(idents, key=place) == idents


async def _make(mesh: Mesh, count: int) -> list[str]:
    return [(await mesh.order())["id"] for _ in range(count)]


async def test_a_listener_that_was_too_slow_catches_up_from_the_record(mesh: Mesh) -> None:
    await mesh.apply({"kind": "machine", "name": "slow"})
    async with deadline(20), events(mesh.http, "/api/v1/events", params={"kind": "element"}) as stream:
        await mesh.http.post("/api/v1/elements/slow/drain")
        first = await anext(stream)
        assert first.data["kind"] == "element.drained"
        listeners = list(mesh.broker.feed._listeners)
        old = msgspec.convert(first.data, Event)
        mesh.broker.feed.publish([old] * (BACKLOG + 1), [1] * (BACKLOG + 1))  # at once: nobody gets to read in between
        assert all(listener.overrun for listener in listeners)
        await mesh.http.post("/api/v1/elements/slow/undrain")
        assert (await anext(stream)).data["kind"] == "element.undrained"


async def test_events_are_chosen_by_noun_or_kind(mesh: Mesh) -> None:
    await mesh.order()
    headers = {"Accept": "application/json"}
    for kind in ("order.created", "object"):
        items = (await mesh.http.get("/api/v1/events", headers=headers, params={"kind": kind})).json()["items"]
        assert items
        assert all(item["kind"].startswith(kind) for item in items)
    wrong = await mesh.http.get("/api/v1/events", params={"kind": "order.creatd"})
    assert "order.created" in problem(wrong, 422)["errors"][0]["hint"]


async def test_past_events_come_in_pages(mesh: Mesh) -> None:
    await mesh.order()
    headers = {"Accept": "application/json"}
    params: dict[str, Any] = {"limit": 2}
    first = (await mesh.http.get("/api/v1/events", headers=headers, params=params)).json()
    assert len(first["items"]) == 2
    second = (
        await mesh.http.get("/api/v1/events", headers=headers, params={"limit": 2, "after": first["next"]})
    ).json()
    assert place(second["items"][0]["id"]) > place(first["items"][-1]["id"])


@pytest.mark.parametrize("ident", ["x", "1.x", "-1", "1.2.3", "٣", "1,0", " 1", "9" * 5000])
async def test_what_is_no_events_id_is_refused(mesh: Mesh, ident: str) -> None:
    problem(await mesh.http.get("/api/v1/events", params={"after": ident}), 422)
    with pytest.raises(InvalidError):
        place(ident)
