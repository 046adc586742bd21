from __future__ import annotations

import json
import signal

from tests.kit.meshes import Mesh


async def made(mesh: Mesh, *inputs: str) -> dict[str, object]:
    ran = await mesh.muster("run", "obey", "--on", mesh.element, *inputs, "--wait", "-o", "json")
    (order,) = json.loads(ran.stdout)["orders"]
    assert isinstance(order, dict)
    return order


async def test_orders_are_listed_by_what_is_asked_for(mesh: Mesh) -> None:
    failed = await made(mesh, "-i", "how=fail")
    listed = json.loads(await mesh.ok("orders", "--state", "failed", "--since", "1h", "-o", "json"))["items"]
    assert failed["id"] in [order["id"] for order in listed]
    assert "no orders" in (await mesh.muster("orders", "--blueprint", "nothing")).stderr
    assert (await mesh.muster("orders", "--state", "asleep")).code == 2
    assert (await mesh.muster("orders", "--since", "yesterday")).code == 2


async def test_the_limit_is_held_across_pages_and_more_is_reported(mesh: Mesh) -> None:
    for _ in range(2):
        await made(mesh)
    ran = await mesh.muster("orders", "--limit", "1")
    assert len(ran.stdout.splitlines()) == 2
    assert "--limit" in ran.stderr


async def test_an_id_may_be_shortened(mesh: Mesh) -> None:
    order = str((await made(mesh, "-i", "text=short"))["id"])
    assert await mesh.ok("logs", order[:8]) == "ok short\n"
    assert order in await mesh.ok("describe", "order", order[:8])
    assert (await mesh.muster("logs", "zzzzzzzzzz")).code == 3


async def test_logs_of_one_job_are_its_output_and_nothing_else(mesh: Mesh) -> None:
    order = str((await made(mesh, "-i", "text=job"))["id"])
    assert await mesh.ok("logs", order, "--job", "do") == "ok job\n"
    reported = json.loads(await mesh.ok("logs", order, "-o", "json"))
    assert {"job": "do", "output": "ok job\n"} in reported["jobs"]
    for more in ([], ["--follow"]):
        assert (await mesh.muster("logs", order, "--job", "dont", *more)).code == 3


async def test_a_job_that_an_order_will_never_have_is_not_waited_for(mesh: Mesh) -> None:
    ran = await mesh.muster("run", "obey", "--on", mesh.element, "-i", "how=hang", "-o", "json")
    order = json.loads(ran.stdout)["orders"][0]["id"]
    ran = await mesh.muster("logs", order, "--job", "dont", "--follow")
    await mesh.ok("cancel", order)
    assert ran.code == 3
    assert "it has obey, do" in ran.stderr
    await mesh.ok("logs", order, "--job", "do", "--follow")


async def test_explaining_shows_where_inputs_came_from_and_the_record(mesh: Mesh) -> None:
    order = str((await made(mesh, "-i", "text=why"))["id"])
    reported = await mesh.ok("explain", order)
    for word in ("why", "blueprint", "created", "claimed", "done", "do"):
        assert word in reported
    assert json.loads(await mesh.ok("explain", order, "-o", "json"))["order"]["id"] == order


async def test_an_ended_order_cannot_be_cancelled_nor_a_finished_one_retried(mesh: Mesh) -> None:
    order = str((await made(mesh))["id"])
    for verb in ("cancel", "retry"):
        ran = await mesh.muster(verb, order)
        assert ran.code == 3
        assert "finished" in ran.stderr


async def test_events_are_one_object_a_line_as_they_happen(mesh: Mesh) -> None:
    before = str((await made(mesh))["rev"])
    async with mesh.running("events", "--kind", "order", "--after", before, "-o", "json") as events:
        order = str((await made(mesh))["id"])
        line = await events.line(f'"subject":"{order}"')
        assert json.loads(line)["kind"].startswith("order.")


async def test_events_begin_now_and_go_on_until_interrupted(mesh: Mesh) -> None:
    earlier = str((await made(mesh))["id"])
    async with mesh.running("events") as events:
        await events.line("watching", stream="err")
        later = str((await made(mesh))["id"])
        await events.line(later)
        assert earlier not in events.stdout
        assert await events.stop(signal.SIGINT) == 130


async def test_events_from_the_beginning_show_what_was(mesh: Mesh) -> None:
    async with mesh.running("events", "--after", "0", "--kind", "element.online") as events:
        assert mesh.element in await events.line("element.online")
    assert (await mesh.muster("events", "--kind", "order.fnished")).code == 2


async def test_an_order_that_nobody_starts_says_why_wherever_it_is_looked_at(mesh: Mesh) -> None:
    why = "nobody01 never had an agent"
    await mesh.ok("apply", "-f", "-", stdin=b"{kind: machine, name: nobody01}")
    ran = await mesh.muster("run", "obey", "--on", "nobody01", "-i", "how=ok", "--wait", "--timeout", "200ms")
    assert (ran.code, f"is offered: {why}" in ran.stderr) == (124, True), ran.stderr
    (order,) = json.loads(await mesh.ok("orders", "--element", "nobody01", "-o", "json"))["items"]
    assert order["reason"] == why
    assert json.loads(await mesh.ok("get", "order", order["id"], "-o", "json"))["reason"] == why
    assert f"waits: {why}" in await mesh.ok("explain", order["id"])
    await mesh.ok("cancel", order["id"])
    await mesh.ok("delete", "machine", "nobody01")
