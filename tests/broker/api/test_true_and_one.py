"""1 and true are two values, although they are equal in Python."""

from __future__ import annotations

from tests.broker.api.conftest import Mesh


async def test_a_param_that_becomes_true_is_a_change(own_mesh: Mesh) -> None:
    await own_mesh.apply({"kind": "machine", "name": "m", "params": {"tls": 1}})
    answer = (await own_mesh.http.put("/api/v1/machines/m", json={"params": {"tls": True}})).json()
    assert (answer["version"], answer["params"]["tls"]) == (2, True)
    again = (await own_mesh.http.put("/api/v1/machines/m", json={"params": {"tls": True}})).json()
    assert again["version"] == 2


async def test_each_order_of_a_firing_has_its_own_elements_value(own_mesh: Mesh) -> None:
    blueprint = {"kind": "blueprint", "name": "any", "inputs": {"x": {}}, "tasks": [{"name": "x", "run": "true"}]}
    machines = [{"kind": "machine", "name": f"m{value}".lower(), "params": {"x": value}} for value in (1, 1.0, True)]
    everyone = {"where": "'x' in element.params", "all": True}
    hook = {"provider": "webhook", "with": {"auth": "none"}, "blueprint": "any", "target": everyone}
    await own_mesh.apply(blueprint, *machines, {"kind": "trigger", "name": "t", **hook})
    await own_mesh.http.post("/api/v1/triggers/t/fire")
    orders = (await own_mesh.http.get("/api/v1/orders")).json()["items"]
    assert {order["element"]: repr(order["inputs"]["x"]) for order in orders} == {
        "m1": "1",
        "m1.0": "1.0",
        "mtrue": "True",
    }
