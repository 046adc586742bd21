"""3. An order is for an element, for what a filter matches, or for whoever of a pool is free."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest_asyncio

from tests.kit.meshes import Mesh
from tests.kit.processes import Program, running
from tests.story.conftest import Apply, Say

FLEET = """
    {kind: machine, name: shop1, labels: {role: shop, site: ams}}
    ---
    {kind: machine, name: shop2, labels: {role: shop, site: nyc}}
    ---
    {kind: pool, name: shops, where: element.labels.role == "shop"}
    ---
    kind: blueprint
    name: where-am-i
    tasks: [{name: show, run: 'echo "here=$MUSTER_ELEMENT" >> "$MUSTER_OUTPUTS"'}]
    """


@pytest_asyncio.fixture
async def shops(mesh: Mesh, apply: Apply) -> AsyncIterator[Program]:
    """One agent, on this host, that acts for both shops."""
    await apply(FLEET)
    elements = ["--element", "shop1", "--element", "shop2"]
    async with running("agent", *elements, "--data", str(mesh.data / "shops"), env=mesh.env) as agent:
        await agent.line("agent.ready", stream="err")
        yield agent
        await agent.stop()


async def test_filters_choose_elements(muster: Say, shops: Program) -> None:
    async def places(*target: str) -> list[str]:
        orders = json.loads(await muster("run where-am-i --wait -o json", *target))["orders"]
        return sorted(order["outputs"]["here"] for order in orders)

    assert await places("--where", 'element.labels.site == "nyc"') == ["shop2"]
    assert await places("--where", 'element.labels.role == "shop"', "--all") == ["shop1", "shop2"]
    (first,) = await places("--pool", "shops")
    assert first in {"shop1", "shop2"}


async def test_a_drained_element_takes_nothing_new(muster: Say, shops: Program) -> None:
    await muster("drain shop1")
    try:
        assert "drained" in await muster("run where-am-i --on shop1")
        order = json.loads(await muster("run where-am-i --pool shops --wait -o json"))["orders"][0]
        assert order["element"] == "shop2"
    finally:
        await muster("undrain shop1")
