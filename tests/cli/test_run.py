from __future__ import annotations

import json
import signal
from functools import partial
from pathlib import Path

from tests.kit.meshes import Mesh
from tests.kit.processes import Ran
from tests.kit.waiting import eventually


def obey(mesh: Mesh, how: str, *more: str) -> list[str]:
    return ["run", "obey", "--on", mesh.element, "-i", f"how={how}", *more]


def only_order(ran: Ran) -> dict[str, object]:
    (order,) = json.loads(ran.stdout)["orders"]
    assert isinstance(order, dict)
    return order


async def test_without_waiting_it_ends_as_soon_as_the_order_is_on_the_record(mesh: Mesh) -> None:
    order = only_order(await mesh.muster(*obey(mesh, "ok"), "-o", "json"))
    assert order["element"] == mesh.element
    assert (await mesh.ok("get", "order", str(order["id"]))).count(str(order["id"])[:10]) == 1


async def test_waiting_reports_how_it_ended_and_exits_0_if_well(mesh: Mesh) -> None:
    ran = await mesh.muster(*obey(mesh, "ok"), "--wait")
    assert ran.code == 0
    assert f"finished on {mesh.element}" in ran.stdout


async def test_a_failed_order_exits_1_and_says_why(mesh: Mesh) -> None:
    ran = await mesh.muster(*obey(mesh, "fail", "-i", "code=7"), "--follow")
    assert ran.code == 1
    assert "failing with 7" in ran.stdout
    assert "failed" in ran.stdout.splitlines()[-2]
    assert "7" in ran.stdout.splitlines()[-1]


async def test_following_shows_output_under_the_jobs_name(mesh: Mesh) -> None:
    lines = (await mesh.ok(*obey(mesh, "ok", "-i", "text=there"), "--follow")).splitlines()
    assert lines[:2] == ["▶ do", "ok there"]
    assert lines[2].startswith("order ")


async def test_followed_json_is_one_object_a_line_and_the_order_at_the_end(mesh: Mesh) -> None:
    ran = await mesh.muster(*obey(mesh, "ok", "-i", "text=there"), "--follow", "-o", "json")
    *pieces, order = [json.loads(text) for text in ran.stdout.splitlines()]
    assert "".join(piece["data"] for piece in pieces) == "ok there\n"
    assert order["state"] == "finished"


async def test_much_output_comes_whole(mesh: Mesh) -> None:
    ran = await mesh.muster(*obey(mesh, "flood", "-i", "megabytes=3"), "--follow", within=60)
    assert ran.code == 0, ran.stderr
    assert ran.stdout.count("x") >= 3 * 1024**2


async def test_binary_output_does_not_break_it(mesh: Mesh) -> None:
    assert "finished" in await mesh.ok(*obey(mesh, "binary"), "--follow")


async def test_the_time_limit_exits_124_and_the_order_goes_on(mesh: Mesh) -> None:
    for mode in ("--follow", "--wait"):
        ran = await mesh.muster(*obey(mesh, "hang"), mode, "--timeout", "2s")
        assert ran.code == 124, ran
        assert "continues" in ran.stderr
        order = (
            ran.stderr.split("order ")[-1].split()[0]
            if mode == "--wait"
            else ran.stderr.split("cancel ")[1].split("`")[0]
        )
        assert (await mesh.muster("cancel", order)).code == 0
        await mesh.muster("logs", order, "--follow")


async def test_an_interrupt_exits_130_and_does_not_cancel(mesh: Mesh) -> None:
    async with mesh.running(*obey(mesh, "hang"), "--follow") as program:
        await program.line("hanging")
        assert await program.stop(signal.SIGINT) == 130
        assert "continues" in program.stderr
        order = program.stderr.split("muster cancel ")[1].split("`")[0]
    assert json.loads(await mesh.ok("get", "order", order, "-o", "json"))["state"] == "running"
    assert "cancelling" in await mesh.ok("cancel", order)
    await mesh.muster("logs", order, "--follow")
    ran = await mesh.muster("retry", order, "-o", "json")
    assert ran.code == 0, ran.stderr
    await mesh.ok("cancel", order)


async def test_inputs_come_from_a_file_and_single_ones_win(mesh: Mesh, tmp_path: Path) -> None:
    file = tmp_path / "inputs.yaml"
    file.write_text("how: ok\ntext: from the file\n")
    run = ["run", "obey", "--on", mesh.element, "--inputs", str(file), "-o", "json"]
    given = only_order(await mesh.muster(*run, "-i", "text=5 apples", "-i", "code=9"))["inputs"]
    assert given["text"] == "5 apples"  # type: ignore[index]
    assert given["code"] == 9  # type: ignore[index]
    ran = await mesh.muster("run", "obey", "--on", mesh.element, "--inputs", "-", "-o", "json", stdin=b'{"text": "x"}')
    assert only_order(ran)["inputs"]["text"] == "x"  # type: ignore[index]


async def test_the_schema_decides_whether_an_input_is_text(mesh: Mesh) -> None:
    inputs = "{v: {type: string}, n: {type: integer, default: 1}, x: {default: 1}}"
    show = """echo "<$INPUT_V|$INPUT_X|$((INPUT_N + 1))>\""""
    manifest = f"{{kind: blueprint, name: typed, inputs: {inputs}, tasks: [{{name: show, run: {json.dumps(show)}}}]}}"
    await mesh.ok("apply", "-f", "-", stdin=manifest.encode())
    run = ["run", "typed", "--on", mesh.element]
    for version in ("1.10", "5", "true", "1e5"):
        assert f"<{version}|1.10|3>" in await mesh.ok(
            *run, "-i", f"v={version}", "-i", "x=1.10", "-i", "n=2", "--follow"
        )
    given = b'{"v": "a", "n": 3.0}'
    assert "<a|1|4>" in await mesh.ok(*run, "--inputs", "-", "--follow", stdin=given)


async def test_wrong_inputs_are_reported_all_at_once_and_make_no_order(mesh: Mesh) -> None:
    ran = await mesh.muster("run", "obey", "--on", mesh.element, "-i", "how=dance", "-i", "code=900", "-i", "txt=x")
    assert ran.code == 2
    for word in ("inputs.how", "inputs.code", "did you mean 'text'"):
        assert word in ran.stderr


async def test_a_dry_run_shows_where_inputs_come_from_and_makes_nothing(mesh: Mesh) -> None:
    before = json.loads(await mesh.ok("orders", "-o", "json", "--limit", "1"))["items"]
    reported = await mesh.ok("run", "obey", "--on", mesh.element, "-i", "text=hi", "--dry-run")
    assert "text = hi  (order)" in reported
    assert "how = ok  (blueprint)" in reported
    assert json.loads(await mesh.ok("orders", "-o", "json", "--limit", "1"))["items"] == before


async def test_it_asks_for_whom(mesh: Mesh) -> None:
    assert (await mesh.muster("run", "obey")).code == 2
    assert (await mesh.muster("run", "obey", "--on", "a", "--pool", "b")).code == 2
    assert (await mesh.muster("run", "obey", "--on", "a", "--all")).code == 2
    assert (await mesh.muster("run", "obey", "--on", "nobody")).code == 3


async def is_offline(mesh: Mesh, machine: str) -> bool:
    """The broker has read that its agent left."""
    return json.loads(await mesh.ok("get", "machine", machine, "-o", "json"))["online"] is False


async def test_several_orders_are_followed_together_each_line_with_its_element(mesh: Mesh, tmp_path: Path) -> None:
    more = [*("--element", "one"), *("--element", "two")]
    async with mesh.running("agent", *more, "--data", str(tmp_path)) as agent:
        await agent.line("agent.ready", stream="err")
        where = ["--where", 'element.name in ["one", "two"]', "--all"]
        ran = await mesh.muster("run", "obey", *where, "-i", "text=hi", "--follow")
        assert ran.code == 0, ran
        lines = ran.stdout.splitlines()
        assert "one │ ok hi" in lines
        assert "two │ ok hi" in lines
        waited = await mesh.muster("run", "obey", *where, "-i", "how=fail", "--wait", "-o", "json")
        assert waited.code == 1
        assert {order["state"] for order in json.loads(waited.stdout)["orders"]} == {"failed"}
        assert await agent.stop() == 0
    for name in ("one", "two"):
        await eventually(partial(is_offline, mesh, name), what=f"{name} is offline")
        await mesh.ok("delete", "machine", name)
