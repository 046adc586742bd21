"""The targets of a trigger's orders, and events that can make none."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_asyncio

from tests.kit.blueprints import WEB, blueprint, machine, script, trigger
from tests.kit.roles import Roles
from tests.kit.waiting import eventually

UNPROCESSABLE = 422
"""A rejected firing."""

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def blueprints(mesh: Roles, webs: None) -> None:
    """What is run here."""
    show = script("show", 'echo "me=$MUSTER_ELEMENT" >> "$MUSTER_OUTPUTS"')
    await mesh.apply(blueprint("work", show, inputs={"n": {"default": 0}}))


async def rung(mesh: Roles, name: str, body: Any = None) -> dict[str, Any]:
    """What was answered to a delivery."""
    answer = await mesh.http.post(f"{mesh.hooks}/hooks/{name}", json=body)
    assert answer.is_success or answer.status_code == UNPROCESSABLE, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def ran_on(mesh: Roles, answer: dict[str, Any]) -> list[str]:
    """Where the orders of an answer ended up."""
    ended = [await mesh.final(order) for order in answer["orders"]]
    assert [order["state"] for order in ended] == ["finished"] * len(ended)
    return sorted(str(order["outputs"]["me"]) for order in ended)


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        ({"on": "e1"}, ["e1"]),
        ({"where": 'element.name == "web2"'}, ["web2"]),
        ({"where": WEB, "count": 2}, ["web"] * 2),
        ({"where": WEB, "all": True}, ["web1", "web2", "web3"]),
        ({"where": WEB, "queue": True}, ["web"]),
        ({"pool": "web"}, ["web"]),
    ],
)
async def test_the_orders_are_for_the_target(mesh: Roles, target: dict[str, Any], wanted: list[str]) -> None:
    await mesh.apply(trigger("aim", "webhook", target=target))
    found = await ran_on(mesh, await rung(mesh, "aim"))
    assert len(found) == len(set(found)) == len(wanted)
    assert all(one.startswith(start) for one, start in zip(found, wanted, strict=True))


async def test_queued_orders_wait_for_runners_that_join_later_though_the_trigger_is_deleted(mesh: Roles) -> None:
    await mesh.apply(trigger("later", "webhook", target={"where": 'element.labels.role == "late"', "queue": True}))
    made = [(await rung(mesh, "later", {"n": number}))["orders"][0] for number in range(6)]
    waiting = await mesh.get(f"orders/{made[0]}")
    assert waiting["state"] in {"queued", "offered"}
    await mesh.http.delete("/api/v1/triggers/later")
    await mesh.restart("broker")
    await mesh.apply(*(machine(f"late{number}", labels={"role": "late"}) for number in (1, 2)))
    await mesh.agent("late1", "late2", name="lates")
    ended = [await mesh.final(order) for order in made]
    assert {order["state"] for order in ended} == {"finished"}
    assert {order["element"] for order in ended} == {"late1", "late2"}
    await mesh.stop("lates")


async def test_an_event_that_matches_no_element_is_rejected_with_the_reason(mesh: Roles) -> None:
    await mesh.apply(trigger("nobody", "webhook", target={"where": 'element.labels.role == "none"'}))
    answer = await rung(mesh, "nobody")
    assert (answer["orders"], answer["state"]) == ([], "rejected")
    assert "no element" in answer["reason"]
    (firing,) = await mesh.firings("nobody")
    assert (firing["state"], firing["reason"]) == ("rejected", answer["reason"])
    assert any(event["subject"] == firing["id"] for event in await mesh.events("firing.rejected"))


async def test_a_template_that_fails_rejects_the_firing_and_keeps_the_event(mesh: Roles) -> None:
    await mesh.apply(trigger("needs", "webhook", inputs={"n": "{{ event.body.count }}"}))
    answer = await rung(mesh, "needs", {"number": 1})
    assert answer["state"] == "rejected"
    assert "count" in answer["reason"]
    assert (await mesh.firings("needs"))[0]["event"]["body"] == {"number": 1}
    good = await mesh.final((await rung(mesh, "needs", {"count": 3}))["orders"][0])
    assert good["inputs"]["n"] == 3


async def test_the_whole_body_may_become_inputs(mesh: Roles) -> None:
    await mesh.apply(trigger("merge", "webhook", merge_event=True))
    order = await mesh.final((await rung(mesh, "merge", {"n": 5, "other": 1}))["orders"][0])
    assert order["inputs"] == {"n": 5}


async def test_a_trigger_may_be_fired_by_hand_looked_at_and_waited_for(mesh: Roles) -> None:
    await mesh.apply(
        trigger("hand", "webhook", inputs={"n": "{{ event.body.n | default(1) }}"}, when="event.kind != 'x'")
    )
    ran = await mesh.cli("fire", "hand", "--event", "-", "--wait", stdin=b"n: 7")
    assert (ran.code, "finished on e1" in ran.stdout) == (0, True), ran
    ran = await mesh.cli("fire", "hand", "-o", "json")
    assert ran.code == 0
    (firing, _) = reversed(await mesh.firings("hand"))
    assert firing["event"]["kind"] == "manual"
    listed = await mesh.cli("firings", "hand")
    assert firing["id"][:10] in listed.stdout
    assert listed.stdout.count("fired") == 2
    shown = await mesh.cli("describe", "firing", firing["id"][:8])
    assert f"firing {firing['id']} of trigger hand v1 is fired" in shown.stdout
    assert firing["id"][:10] in (await mesh.cli("get", "firing", firing["id"])).stdout
    explained = await mesh.cli("explain", firing["orders"][0])
    assert f"made by: trigger hand, firing {firing['id']}" in explained.stdout
    assert "trigger hand" in (await mesh.cli("describe", "trigger", "hand")).stdout
    assert (await mesh.cli("next", "hand")).code == 3
    assert (await mesh.cli("fire", "hnad")).code == 3
    assert (await mesh.cli("firings", "hnad")).code == 3
    await mesh.apply(trigger("hand", "webhook", target={"where": 'element.name == "none"'}))
    refused = await mesh.cli("fire", "hand")
    assert (refused.code, "was rejected: no element" in refused.stderr) == (3, True), refused


async def test_the_times_to_come_are_reported_in_the_triggers_own_zone(mesh: Roles) -> None:
    settings = {"cron": "0 9 * * *", "timezone": "Asia/Tokyo"}
    await mesh.apply(trigger("morning", "cron", with_=settings))
    ran = await mesh.cli("next", "morning", "-n", "3")
    assert ran.stdout.count("T09:00:00+09:00") == 3
    assert ran.stdout.count("T00:00:00Z") == 3
    assert "Next" in (await mesh.cli("describe", "trigger", "morning")).stdout
    await eventually(lambda: _no_firings(mesh, "morning"))


async def _no_firings(mesh: Roles, name: str) -> bool:
    return not await mesh.firings(name)
