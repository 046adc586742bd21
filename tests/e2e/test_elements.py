"""Elements: their names, their modes, drained or not; and what is reported about them and their orders."""

from __future__ import annotations

import msgspec
import pytest
import pytest_asyncio

from tests.kit.blueprints import blueprint, machine, script
from tests.kit.roles import Roles

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def blueprints(mesh: Roles) -> None:
    """What is run here."""
    inputs = {"colour": {"type": "string", "default": "red"}, "size": {"type": "integer", "default": 1}}
    await mesh.apply(
        blueprint("paint", script("paint", 'echo "painting $INPUT_COLOUR $INPUT_SIZE"'), inputs=inputs),
        {"kind": "profile", "name": "large", "params": {"size": 3}},
    )


async def test_names_may_have_dots_dashes_and_underscores(mesh: Roles) -> None:
    names = ("db-1.ams_2.example.org", "0", "a" * 63, "a..b", "a.")
    await mesh.agent(*names, name="odd")
    for name in names:
        order = await mesh.run("paint", name)
        assert (order["state"], order["element"]) == ("finished", name)
        assert await mesh.output(order["id"]) == b"painting red 1\n"


@pytest.mark.parametrize("name", ["Web01", "a b", ".a", "-a", "a*", "a>", "ä", "a" * 64, "$SYS", "../x"])
async def test_other_names_are_refused_with_the_rule(mesh: Roles, name: str) -> None:
    answer = await mesh.http.post("/api/v1/apply", json={"kind": "machine", "name": name})
    assert answer.status_code == 422, answer.text
    assert "a-z, 0-9" in answer.text


async def test_an_agent_refuses_such_a_name_at_once(mesh: Roles) -> None:
    ran = await mesh.cli("agent", "--element", "Web 01")
    assert ran.code == 2
    assert "'Web 01' cannot be an element's name" in ran.stderr


async def test_a_drained_element_takes_nothing_new(mesh: Roles) -> None:
    assert (await mesh.cli("drain", "e2")).code == 0
    order = await mesh.order("paint", "e2")
    found = await mesh.get(f"orders/{order}")
    assert (found["state"], found["reason"]) == ("queued", "drained")
    assert (await mesh.cli("undrain", "e2")).code == 0
    assert (await mesh.final(order))["state"] == "finished"


async def test_in_workflow_mode_work_orders_wait(mesh: Roles) -> None:
    assert (await mesh.cli("mode", "e2", "workflow")).code == 0
    order = await mesh.order("paint", "e2")
    assert (await mesh.get(f"orders/{order}"))["reason"] == "mode"
    assert "workflow mode" in (await mesh.cli("explain", order)).stdout
    assert (await mesh.cli("mode", "e2", "work_order")).code == 0
    assert (await mesh.final(order))["state"] == "finished"


async def test_explain_reports_where_each_input_came_from_and_what_happened(mesh: Roles) -> None:
    await mesh.apply(machine("e2", profiles=["large"], params={"colour": "blue"}))
    order = await mesh.run("paint", "e2")
    shown = msgspec.json.decode((await mesh.cli("explain", order["id"][:8], "-o", "json")).stdout)
    assert {row["name"]: (row["value"], row["source"]) for row in shown["inputs"]} == {
        "colour": ("blue", "element"),
        "size": (3, "profile:large"),
    }
    history = [(entry["type"], entry["actor"]) for entry in shown["history"]]
    claim = [] if shown["history"][0]["data"].get("start") else [("claimed", "e2")]  # at once, if the slot was free
    assert history == [("created", "broker"), *claim, ("done", "e2")]
    given = await mesh.run("paint", "e2", inputs={"colour": "green"})
    assert given["sources"] == {"colour": "order", "size": "profile:large"}


async def test_logs_describe_and_events_show_an_order(mesh: Roles) -> None:
    order = await mesh.run("paint", "e2", inputs={"colour": "teal"})
    assert "painting teal" in (await mesh.cli("logs", order["id"])).stdout
    assert "painting teal" in (await mesh.cli("logs", order["id"], "--follow")).stdout
    described = (await mesh.cli("describe", "order", order["id"][:8])).stdout
    assert all(word in described for word in ("paint", "teal", "finished", "e2"))
    assert order["id"] in [event["subject"] for event in await mesh.events("order.finished")]
    kinds = [event["kind"] for event in await mesh.events("order") if event["subject"] == order["id"]]
    assert kinds == ["order.created", "order.running", "order.finished"]
