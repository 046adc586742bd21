"""Trigger services as processes of their own: several on one mesh, killed in the middle, and the broker too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.kit import record
from tests.kit.blueprints import blueprint, trigger
from tests.kit.http import http_client
from tests.kit.roles import Roles
from tests.kit.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

EVERY_SECOND = {"cron": "* * * * * *", "missed": "all"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Roles]:
    """Two trigger services, and an element whose agent stays away; each test leaves them running."""
    async with Roles.started(tmp_path_factory.mktemp("mesh")) as mesh:
        await mesh.triggers()
        await mesh.triggers("triggers2")
        await mesh.apply({"kind": "machine", "name": "e1"}, blueprint("work", {"name": "nothing", "uses": "noop"}))
        yield mesh


@pytest_asyncio.fixture(loop_scope="module")
async def ticks(mesh: Roles, request: pytest.FixtureRequest) -> AsyncIterator[list[str]]:
    """Five triggers of a test's own, which fire each second."""
    names = [f"{request.node.name[5:40]}{number}" for number in range(5)]
    await mesh.apply(*(trigger(name, "cron", with_=EVERY_SECOND) for name in names))
    yield names
    for name in names:
        await mesh.http.delete(f"/api/v1/triggers/{name}")


def seconds(firings: list[dict[str, Any]]) -> list[datetime]:
    """When they were due."""
    return [datetime.fromisoformat(firing["due"]) for firing in firings]


async def every_tick_once(mesh: Roles, names: list[str], least: int = 4) -> None:
    """No due time is missing, none counts twice, and each has its one order."""
    for name in names:
        found = await mesh.firings(name)
        dues = seconds(found)
        assert len(dues) >= least
        assert dues == [dues[0] + timedelta(seconds=number) for number in range(len(dues))]
        orders = [order for firing in found for order in firing["orders"]]
        assert len(orders) == len(set(orders)) == len(found)


async def caught_up(mesh: Roles, names: list[str], since: datetime, within: float = 15.0) -> None:
    """Wait until every trigger has gone off for a time after `since`."""
    for name in names:
        await eventually(lambda name=name: _is_behind(mesh, name, since), within, f"{name} ticks again")  # type: ignore[misc]


async def _is_behind(mesh: Roles, name: str, since: datetime) -> bool:
    try:
        found = await mesh.firings(name)
    except httpx.TransportError:
        return False
    return bool(found) and seconds(found)[-1] > since


async def test_two_services_fire_no_tick_twice_and_when_one_is_killed_none_is_lost(
    mesh: Roles, ticks: list[str]
) -> None:
    for name in ticks:
        await mesh.fired(name, 2)
    await mesh.kill("triggers")
    killed = seconds(await mesh.firings(ticks[0]))[-1]
    await caught_up(mesh, ticks, killed + timedelta(seconds=1), within=5)
    await every_tick_once(mesh, ticks)
    await mesh.kill("triggers2")
    await mesh.start("triggers")
    await caught_up(mesh, ticks, killed + timedelta(seconds=4))
    await every_tick_once(mesh, ticks, 6)
    await mesh.start("triggers2")


async def test_a_broker_that_is_killed_while_it_ticks_costs_no_tick(mesh: Roles, ticks: list[str]) -> None:
    await mesh.fired(ticks[0], 2)
    killed = seconds(await mesh.firings(ticks[0]))[-1]
    await mesh.kill("broker")
    await mesh.start("broker")
    await caught_up(mesh, ticks, killed + timedelta(seconds=3))
    await every_tick_once(mesh, ticks)


async def test_a_server_that_is_killed_while_it_ticks_costs_no_tick(mesh: Roles, ticks: list[str]) -> None:
    await mesh.fired(ticks[0], 2)
    killed = seconds(await mesh.firings(ticks[0]))[-1]
    await mesh.restart("server")
    await caught_up(mesh, ticks, killed + timedelta(seconds=4), 25)
    await every_tick_once(mesh, ticks)
    await mesh.stop("triggers", "triggers2")
    before, after = await mesh.rebuilt()
    assert before == after
    for name in ("broker", "triggers", "triggers2"):
        await mesh.start(name)


async def test_deleting_disabling_and_changing_hold_at_once_in_every_service(mesh: Roles, ticks: list[str]) -> None:
    deleted, disabled, changed, *_, ticking = ticks
    await mesh.fired(ticking, 2)
    await mesh.http.delete(f"/api/v1/triggers/{deleted}")
    await mesh.apply(trigger(disabled, "cron", with_=EVERY_SECOND, enabled=False))
    await mesh.apply(trigger(changed, "cron", with_={"cron": "0 0 1 1 *"}))
    numbers = {name: len(await mesh.firings(name)) for name in (deleted, disabled, changed)}
    await mesh.fired(ticking, len(await mesh.firings(ticking)) + 3)
    assert {name: len(await mesh.firings(name)) for name in numbers} == numbers
    await mesh.apply(trigger(changed, "cron", with_=EVERY_SECOND))
    await mesh.fired(changed, numbers[changed] + 1, 3)


async def test_a_service_reports_its_state_and_ends_cleanly(tmp_path: Path) -> None:
    async with Roles.started(tmp_path, "e1") as mesh:
        url = await mesh.triggers()
        await mesh.apply(
            blueprint("work", {"name": "nothing", "uses": "noop"}),
            trigger("bell", "webhook", inputs={}),
            trigger("tick", "interval", with_={"every": "1s"}),
        )
        async with http_client(url) as http:
            assert (await http.get("/healthz")).text == "ok\n"
            assert (await http.get("/readyz")).text == "ready\n"
            assert (await http.get("/other")).status_code == 404
            assert (await http.post("/metrics")).status_code == 405
            rung = await http.post("/hooks/bell", json={"tone": "high"})
            assert rung.status_code == 202, rung.text
            (order,) = rung.json()["orders"]
            assert (await mesh.final(order))["trigger"] == "bell"
            await mesh.fired("tick")
            metrics = (await http.get("/metrics")).text
            assert 'muster_triggers{provider="webhook"} 1.0' in metrics
            assert 'muster_trigger_deliveries{status="202"} 1.0' in metrics
            assert 'muster_trigger_events_total{result="fired"}' in metrics
            await mesh.kill("broker")
            assert (await http.post("/hooks/bell", json={})).status_code == 503
            await mesh.kill("server")

            async def away() -> bool:
                return (await http.get("/readyz")).status_code == 503

            await eventually(away, what="it says that it is not ready")
            await mesh.start("server")
            await mesh.start("broker")
            await eventually(lambda: _rings(http), 15, "it takes deliveries again")
        assert await mesh.programs["triggers"].stop() == 0
        for made in (await mesh.get("orders"))["items"]:
            await mesh.final(made["id"])
        record.check_endings(await record.replay(mesh.plain_url), [order])


async def _rings(http: httpx.AsyncClient) -> bool:
    return (await http.post("/hooks/bell", json={})).status_code == 202


async def test_a_service_ends_when_asked_though_nobody_is_there(tmp_path: Path) -> None:
    async with Roles.started(tmp_path) as mesh:
        await mesh.triggers()
        await mesh.apply({"kind": "machine", "name": "e1"}, blueprint("work", {"name": "nothing", "uses": "noop"}))
        await mesh.apply(
            trigger("tick", "cron", with_=EVERY_SECOND),
            trigger("heard", "nats", with_={"subject": "shop.x"}),
            trigger("fail", "event", with_={"kinds": ["order.failed"]}),
        )
        await mesh.fired("tick")
        await mesh.stop("broker")
        await mesh.programs["triggers"].line("ticks.wait", stream="err")
        await mesh.kill("server")
        assert await mesh.programs["triggers"].stop(within=10) == 0
        lonely = await mesh.start("triggers", ready=False)
        await mesh.start("server")
        await lonely.line("triggers.wait", stream="err")
        await mesh.start("broker")
        await lonely.line("ready triggers")
