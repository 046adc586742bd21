"""The target of an order: one element, the first match, some, all, or any free member of a pool."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_asyncio

from tests.kit.blueprints import WEB, blueprint, machine, script, witness
from tests.kit.roles import Roles
from tests.kit.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def fleet(mesh: Roles, webs: None) -> None:
    """The web machines, and one of another kind on another agent."""
    await mesh.apply(
        machine("lone", labels={"role": "db"}, slots=2),
        blueprint("who", script("tell", 'echo "me=$MUSTER_ELEMENT" >> "$MUSTER_OUTPUTS"')),
        blueprint(
            "numbered",
            script("tell", 'echo "got=$INPUT_NUMBER" >> "$MUSTER_OUTPUTS"'),
            inputs={"number": {"type": "integer"}},
        ),
        witness("gated", "held", gated="held"),
    )
    await mesh.agent("lone")


async def ran_on(mesh: Roles, **target: object) -> list[str]:
    """Where the orders of a target ended up, in the order of making."""
    made = (await mesh.post("orders", {"blueprint": "who", **target}))["orders"]
    ended = [await mesh.final(order["id"]) for order in made]
    assert [order["state"] for order in ended] == ["finished"] * len(made)
    assert [order["outputs"]["me"] for order in ended] == [order["element"] for order in ended]
    return [str(order["element"]) for order in ended]


async def test_one_agent_acts_for_several_elements(mesh: Roles) -> None:
    for element in ("web1", "web3", "lone"):
        assert await ran_on(mesh, on=element) == [element]


async def test_a_filter_alone_takes_the_first_match(mesh: Roles) -> None:
    (only,) = await ran_on(mesh, where=WEB)
    assert only in {"web1", "web2", "web3"}


async def test_count_takes_so_many(mesh: Roles) -> None:
    assert len(set(await ran_on(mesh, where=WEB, count=2))) == 2


async def test_all_takes_every_match(mesh: Roles) -> None:
    assert sorted(await ran_on(mesh, where=f"{WEB} && element.params.number > 1", all=True)) == ["web2", "web3"]


async def test_more_than_there_are_is_refused(mesh: Roles) -> None:
    ran = await mesh.cli("run", "who", "--where", WEB, "--count", "4")
    assert ran.code == 3
    assert "only 3 of 4 elements match" in ran.stderr


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ('element.kidn == "machine"', "kidn"),
        ("element.name + 1", "1"),
        ('element.name == "x', "not a valid expression"),
        ("element.name", "must be true or false"),
    ],
)
async def test_a_filter_that_makes_no_sense_is_reported_at_once(mesh: Roles, where: str, words: str) -> None:
    answer = await mesh.http.post("/api/v1/orders", json={"blueprint": "who", "where": where})
    assert answer.status_code == 422
    assert words in answer.text


async def test_a_pools_orders_go_to_all_members_that_are_free(mesh: Roles, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    inputs = {"file": str(tmp_path / "lines"), "gate": str(gate)}
    orders = [await mesh.order("gated", pool="web", inputs=inputs) for _ in range(4)]

    async def running() -> list[str]:
        states = [await mesh.get(f"orders/{order}") for order in orders]
        return [str(order["element"]) for order in states if order["state"] == "running"]

    async def three() -> bool:
        return sorted(await running()) == ["web1", "web2", "web3"]

    await eventually(three, what="one order on each member")
    gate.touch()
    assert [(await mesh.final(order))["state"] for order in orders] == ["finished"] * 4


async def test_a_pools_order_takes_inputs_from_the_element_that_claims_it(mesh: Roles) -> None:
    order = await mesh.run("numbered", pool="web")
    assert order["outputs"]["got"] == int(order["element"][-1])
    assert order["sources"] == {"number": "element"}


async def test_slots_bound_how_many_orders_an_element_runs(mesh: Roles, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    inputs = {"file": str(tmp_path / "lines"), "gate": str(gate)}
    orders = [await mesh.order("gated", "lone", inputs=inputs) for _ in range(3)]

    async def states() -> list[str]:
        return sorted([(await mesh.get(f"orders/{order}"))["state"] for order in orders])

    async def two_run() -> bool:
        return await states() == ["offered", "running", "running"]

    await eventually(two_run, what="two of three running")
    gate.touch()
    for order in orders:
        assert (await mesh.final(order))["state"] == "finished"
