"""7. Work starts by itself: by the clock, by what others send, by what happens."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from tests.kit.http import http_client
from tests.kit.meshes import Mesh
from tests.kit.waiting import eventually
from tests.story.conftest import Apply, Say


@pytest_asyncio.fixture(autouse=True)
async def clean(mesh: Mesh) -> AsyncIterator[None]:
    """The reader tidies up after each chapter."""
    yield
    for trigger in json.loads(await mesh.ok("get", "triggers", "-o", "json"))["items"]:
        await mesh.ok("delete", "trigger", trigger["name"])


async def last(muster: Say, trigger: str) -> dict[str, Any]:
    """The trigger's last firing, as soon as there is one."""

    async def look() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(await muster(f"firings {trigger} -o json"))["items"]
        return found

    found: list[dict[str, Any]] = await eventually(look, what=f"{trigger} has gone off")
    return found[0]


async def test_the_clock_makes_orders(muster: Say, apply: Apply, mesh: Mesh) -> None:
    await apply(f"""
        kind: trigger
        name: each-second
        provider: cron
        with: {{cron: "* * * * * *", timezone: Europe/Amsterdam}}
        blueprint: hello
        target: {{on: {mesh.element}}}
        inputs: {{greeting: "It is {{{{ event.local }}}}"}}
    """)
    assert "NEXT" in await muster("next each-second -n 2")
    (order,) = (await last(muster, "each-second"))["orders"]
    assert "It is 20" in await muster(f"logs {order} --follow")


async def test_what_others_send_makes_orders_once(muster: Say, apply: Apply, mesh: Mesh) -> None:
    await apply(f"""
        kind: trigger
        name: bell
        provider: webhook
        when: event.body.to != "nobody"
        blueprint: hello
        target: {{on: {mesh.element}}}
        inputs: {{greeting: "Hello {{{{ event.body.to }}}}"}}
    """)
    async with http_client(mesh.api) as sender:
        again = {"Idempotency-Key": "the first ring"}
        rung = (await sender.post("/hooks/bell", json={"to": "Ada"}, headers=again)).json()
        assert "Hello Ada" in await muster(f"logs {rung['orders'][0]} --follow")
        assert (await sender.post("/hooks/bell", json={"to": "Ada"}, headers=again)).json() == {
            **rung,
            "duplicate": True,
        }
        assert "ignored" in (await sender.post("/hooks/bell", json={"to": "nobody"})).json()
    explained = await muster(f"explain {rung['orders'][0]}")
    assert f"made by: trigger bell, firing {rung['firing']}" in explained
    assert "greeting" in explained


async def test_a_trigger_is_tried_by_hand(muster: Say, apply: Apply, mesh: Mesh) -> None:
    await apply(f"""
        kind: trigger
        name: on-failure
        provider: event
        with: {{kinds: [order.failed]}}
        blueprint: hello
        target: {{on: {mesh.element}}}
        inputs: {{greeting: "failed: {{{{ event.body.reason | default('a rehearsal') }}}}"}}
    """)
    shown = await muster("fire on-failure --follow --timeout 10s")
    assert "failed: a rehearsal" in shown
    assert "manual" in await muster("firings on-failure")
