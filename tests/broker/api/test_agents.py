"""Agents ask by subjects of their own element, and for nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from muster.mesh import names, records
from muster.mesh.version import OURS, PROTOCOL
from tests.broker.api.conftest import Mesh
from tests.kit.waiting import eventually


async def ask(mesh: Mesh, subject: str, **body: Any) -> Any:
    """What the broker answers."""
    return json.loads((await mesh.nats.request(subject, json.dumps(body).encode(), timeout=10)).data)


async def detail(mesh: Mesh, subject: str, **body: Any) -> tuple[int, str]:
    """What the broker refuses with."""
    error = (await ask(mesh, subject, **body))["error"]
    return error["status"], error["detail"]


async def joined(mesh: Mesh, element: str, **more: Any) -> None:
    """An agent that has joined."""
    body = {"element": element, "agent": f"agent-of-{element}", "protocol": PROTOCOL} | more
    assert (await ask(mesh, names.agent(element, "join"), **body))["assignment"]["element"] == element


async def running(mesh: Mesh, element: str) -> str:
    """An order that the element runs."""
    order = str((await mesh.order(on=element))["id"])
    record = records.Claimed(order=order, attempt=1, element=element, agent=f"agent-of-{element}")
    await mesh.nats.publish(records.subject(record, element), records.encode(record))
    await mesh.nats.flush()
    return order


@pytest.mark.parametrize("verb", ["join", "leave", "resume"])
async def test_the_body_must_not_name_another_element(own_mesh: Mesh, verb: str) -> None:
    more = {"order": "o", "attempt": 1} if verb == "resume" else {"protocol": PROTOCOL}
    body = {"element": "web01", "agent": "a"} | more
    status, said = await detail(own_mesh, names.agent("web03", verb), **body)
    assert (status, said) == (403, "the agent of web03 must not ask for web01")


async def test_a_refusal_does_not_say_where_the_other_agent_is(own_mesh: Mesh) -> None:
    await joined(own_mesh, "web01", place="secret-place")
    beat = {"agent": "agent-of-web01", "protocol": PROTOCOL}
    await own_mesh.nats.publish(names.presence("web01"), json.dumps(beat).encode())
    await own_mesh.nats.flush()
    other = {"element": "web01", "agent": "other", "protocol": PROTOCOL}
    status, said = await detail(own_mesh, names.agent("web01", "join"), **other)
    assert status == 503
    assert "secret-place" not in said


async def test_only_the_element_that_runs_an_order_makes_its_child_orders(own_mesh: Mesh) -> None:
    for element in ("web01", "web03"):
        await joined(own_mesh, element)
    parent = await running(own_mesh, "web01")
    child = {"blueprint": "hello", "on": "web01"}
    for more in ({"parent": parent}, {}, {"parent": "nowhere"}):
        status, said = await detail(own_mesh, names.agent("web03", "create"), **child, **more)
        assert status == 403, said
    (made,) = (await ask(own_mesh, names.agent("web01", "create"), **child, parent=parent))["orders"]
    assert made["parent"] == parent


async def test_only_the_holder_gives_an_order_up(own_mesh: Mesh) -> None:
    for element in ("web01", "web03"):
        await joined(own_mesh, element)
    order = await running(own_mesh, "web01")
    asked = {"order": order, "attempt": 1, "agent": "agent-of-web01"}
    assert (await ask(own_mesh, names.agent("web03", "resume"), **asked, element="web03"))["drop"]
    assert (await own_mesh.http.get(f"/api/v1/orders/{order}")).json()["state"] == "running"
    assert (await ask(own_mesh, names.agent("web01", "resume"), **asked, element="web01"))["drop"]
    assert (await own_mesh.http.get(f"/api/v1/orders/{order}")).json()["state"] == "offered"


@pytest.mark.parametrize("subject", ["muster.agent.web01.join", "muster.api.elements.join"])
@pytest.mark.parametrize("more", [{}, {"protocol": 99, "version": "9.0.0", "news": True}], ids=["older", "newer"])
async def test_an_agent_that_does_not_fit_is_refused_with_both_versions_wherever_somebody_looks(
    own_mesh: Mesh, subject: str, more: dict[str, Any]
) -> None:
    status, said = await detail(own_mesh, subject, element="web01", agent="old", place="p", **more)
    theirs, older = ("9.0.0 (protocol 99)", "broker") if more else ("unknown (protocol 1)", "agent")
    why = f"the agent is of version {theirs}, the broker of {OURS}: they do not fit; upgrade the {older}"
    assert (status, said) == (409, why)
    element = (await own_mesh.http.get("/api/v1/machines/web01")).json()
    assert (element["online"], element["trouble"]) == (False, why)
    info = (await own_mesh.http.get("/api/v1/info")).json()
    assert (info["protocol"], info["troubles"]) == (PROTOCOL, {"web01": why})
    await joined(own_mesh, "web01")
    beat = {"agent": "agent-of-web01", "protocol": PROTOCOL, "news": "of a later version"}
    await own_mesh.nats.publish(names.presence("web01"), json.dumps(beat).encode())
    await own_mesh.nats.flush()

    async def recovered() -> bool:
        return not (await own_mesh.http.get("/api/v1/machines/web01")).json()["trouble"]

    await eventually(recovered, what="the broker has heard of the agent that fits")
