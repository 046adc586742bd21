"""What trigger services rely on in a broker holds for a real one and for the stand-in that other tests use.

Each test runs on both: a stand-in that answers otherwise would make the tests of this folder prove nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import httpx
import msgspec
import pytest
import pytest_asyncio
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.errors import KeyNotFoundError

from muster.broker.api.context import ApiSettings
from muster.broker.main import Broker, BrokerSettings
from muster.mesh import names
from muster.mesh.asking import Requests
from muster.mesh.connection import connect, settled
from muster.mesh.errors import InvalidError, NotFoundError
from muster.mesh.events import EventPage, EventQuery
from muster.mesh.firing import Definition, DueReply, FireReply, FireRequest, FiringState
from muster.triggers.definitions import TriggerRef, understood
from muster.triggers.fire import by_request
from tests.kit.blueprints import blueprint, machine
from tests.kit.blueprints import trigger as manifest
from tests.kit.http import http_client
from tests.kit.servers import Nats
from tests.kit.waiting import deadline, eventually
from tests.triggers.control_plane import ControlPlane, control_plane

WITH: dict[str, Any] = {"auth": "none"}
EVENT: dict[str, Any] = {"provider": "webhook", "kind": "delivery", "body": {}}


class Plane(Protocol):
    """A control plane, real or not."""

    async def define(self, name: str, *, enabled: bool = True, **with_: Any) -> None:
        """Define a webhook trigger, or change it."""

    async def delete(self, name: str) -> None:
        """Delete a trigger."""

    async def happen(self) -> None:
        """Let an event of kind `object.created` come on the record."""


class StandIn:
    """The stand-in."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    async def define(self, name: str, *, enabled: bool = True, **with_: Any) -> None:
        await self._plane.apply(name, "webhook", enabled=enabled, **WITH, **with_)

    async def delete(self, name: str) -> None:
        await self._plane.delete(name)

    async def happen(self) -> None:
        await self._plane.happen("object.created")


class Real:
    """A broker."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._machines = 0

    async def apply(self, *manifests: dict[str, Any]) -> None:
        answer = await self._http.post("/api/v1/apply", json=list(manifests))
        assert answer.status_code == 200, answer.text

    async def define(self, name: str, *, enabled: bool = True, **with_: Any) -> None:
        await self.apply(manifest(name, "webhook", with_=WITH | with_, enabled=enabled))

    async def delete(self, name: str) -> None:
        assert (await self._http.delete(f"/api/v1/triggers/{name}")).is_success

    async def happen(self) -> None:
        self._machines += 1
        await self.apply(machine(f"m{self._machines}"))


@asynccontextmanager
async def stand_in(nats: Nats, _: Path) -> AsyncIterator[Plane]:
    async with control_plane(nats.url) as plane:
        yield StandIn(plane)


@asynccontextmanager
async def real(nats: Nats, folder: Path) -> AsyncIterator[Plane]:
    api = ApiSettings(port=0, grace=1)
    settings = BrokerSettings(server=nats.url, open=True, data=folder, api=api, durability="fast", ready_line=False)
    async with AsyncExitStack() as stack:
        broker = Broker(settings)
        await broker.start(stack)
        assert broker.surfaces is not None
        plane = Real(await stack.enter_async_context(http_client(broker.surfaces.http.url, timeout=30)))
        await plane.apply(machine("e1"), blueprint("work", {"name": "nothing", "uses": "noop"}))
        yield plane


@pytest_asyncio.fixture(params=[stand_in, real], ids=["stand-in", "broker"])
async def plane(request: pytest.FixtureRequest, fresh_nats: Nats, tmp_path: Path) -> AsyncIterator[Plane]:
    """Each of the two, on an account of its own."""
    async with request.param(fresh_nats, tmp_path) as found:
        yield found


@pytest_asyncio.fixture
async def client(fresh_nats: Nats) -> AsyncIterator[Client]:
    """A trigger service's connection."""
    async with deadline(40), connect(fresh_nats.url, name="triggers") as client:
        yield client


@pytest_asyncio.fixture
async def requests(client: Client) -> AsyncIterator[Requests]:
    """What a trigger service asks with."""
    async with Requests(client) as requests:
        yield requests


async def defined(requests: Requests, name: str) -> Definition:
    """The definition as a broker gives it to whoever asks."""
    return await requests.ask("triggers", "get", TriggerRef(name=name), Definition)


async def in_bucket(client: Client, name: str) -> Definition | None:
    """The definition as the bucket has it."""
    bucket = await client.jetstream(timeout=5).key_value(names.TRIGGER_BUCKET)
    try:
        entry = await bucket.get(names.key(name))
    except KeyNotFoundError:
        return None
    return msgspec.json.decode(entry.value or b"", type=Definition)


async def in_both(client: Client, requests: Requests, name: str, version: int) -> Definition:
    """The definition of a version, once the bucket has what the broker answers."""
    wanted = await defined(requests, name)
    assert wanted.version == version

    async def same() -> bool:
        return await in_bucket(client, name) == wanted

    await eventually(same, what=f"version {version} in the bucket")
    return wanted


async def events(requests: Requests, **query: Any) -> EventPage:
    """A page of the record of events."""
    return await requests.ask("events", "list", EventQuery(kinds=("object.created",), **query), EventPage)


def request(trigger: str, key: str, **more: Any) -> FireRequest:
    """An event that met a trigger."""
    return FireRequest(trigger=trigger, key=key, event=EVENT, **more)


async def test_the_bucket_has_each_definition_as_it_is_answered(
    plane: Plane, client: Client, requests: Requests
) -> None:
    await plane.define("t")
    first = await in_both(client, requests, "t", 1)
    assert (first.name, first.provider, first.with_, first.enabled) == ("t", "webhook", WITH, True)
    assert understood(first).is_active
    await plane.define("t", enabled=False, rate="10/1m")
    second = await in_both(client, requests, "t", 2)
    assert second.with_ == WITH | {"rate": "10/1m"}
    assert not understood(second).is_active
    assert understood(first).is_older(understood(second))
    await plane.delete("t")

    async def gone() -> bool:
        return await in_bucket(client, "t") is None

    await eventually(gone, what="a bucket without the trigger")
    with pytest.raises(NotFoundError):
        await defined(requests, "t")


async def test_nobody_fires_what_is_unknown_disabled_or_changed(plane: Plane, requests: Requests) -> None:
    fire = by_request(requests)
    await plane.define("t")
    await plane.define("off", enabled=False)
    for name in ("off", "unknown"):
        with pytest.raises(NotFoundError):
            await fire(request(name, "1"))
    assert await fire(request("t", "1", version=7)) == FireReply(stale=True)
    assert (await fire(request("t", "1", version=1))).firing, "a stale request used no key up"


async def test_an_event_makes_one_firing_however_often_it_comes(plane: Plane, requests: Requests) -> None:
    fire = by_request(requests)
    await plane.define("t")
    first = await fire(request("t", "1"))
    again = await fire(request("t", "1"))
    other = await fire(request("t", "2"))
    assert (first.state, first.duplicate) == (FiringState.FIRED, False)
    assert (again.state, again.duplicate, again.firing) == (FiringState.FIRED, True, first.firing)
    assert (other.duplicate, other.firing == first.firing) == (False, False)


async def test_what_cannot_make_orders_is_a_rejected_firing(plane: Plane, requests: Requests) -> None:
    fire = by_request(requests)
    await plane.define("t")
    reply = await fire(request("t", "1", rejected="it is too large"))
    assert (bool(reply.firing), reply.state, reply.orders) == (True, FiringState.REJECTED, ())


async def test_what_was_never_due_has_no_last_time(plane: Plane, requests: Requests) -> None:
    await plane.define("t")
    await by_request(requests)(request("t", "1"))
    assert await requests.ask("triggers", "due", {}, DueReply) == DueReply(last={})


async def test_the_record_of_events_is_read_in_pages_and_each_goes_on_behind_the_last(
    plane: Plane, requests: Requests
) -> None:
    start = (await requests.ask("events", "list", EventQuery(limit=0), EventPage)).next
    for _ in range(5):
        await plane.happen()

    async def all_five() -> bool:
        return len((await events(requests, after=start)).items) == 5

    await eventually(all_five, what="five events on the record")
    whole = await events(requests, after=start)
    first = await events(requests, after=start, limit=3)
    rest = await events(requests, after=first.next, limit=3)
    assert [*first.items, *rest.items] == whole.items
    assert first.next == first.items[-1].id
    end = await events(requests, after=whole.next)
    assert (end.items, end.next) == ([], whole.next)
    assert [event.kind for event in whole.items] == ["object.created"] * 5
    assert (await events(requests, since=whole.items[0].time)).items == whole.items[1:]


async def test_a_page_of_events_has_a_limit(plane: Plane, requests: Requests) -> None:
    await plane.define("t")
    with pytest.raises(InvalidError):
        await requests.ask("events", "list", {"limit": 1001}, EventPage)


async def test_an_event_is_announced(plane: Plane, client: Client) -> None:
    heard: list[Msg] = []

    async def hear(message: Msg) -> None:
        heard.append(message)

    await client.subscribe("muster.event.object.created.*", cb=hear)
    await settled(client)
    await plane.happen()
    await eventually(lambda: heard, what="an event on NATS")
