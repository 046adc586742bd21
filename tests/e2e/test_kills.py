"""SIGKILL to each part, at each step of an order's way: nothing is lost, nothing runs twice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.kit import record
from tests.kit.blueprints import blueprint, machine, script, witness, words
from tests.kit.processes import is_alive
from tests.kit.roles import Roles
from tests.kit.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Roles]:
    """A mesh of this file's own, since it breaks it."""
    async with Roles.started(tmp_path_factory.mktemp("mesh"), "e1") as mesh:
        yield mesh


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def blueprints(mesh: Roles) -> None:
    """What the tests here run."""
    await mesh.apply(
        machine("e1", slots=4),
        machine("absent"),
        witness("gated", "before", "held", "after", gated="held"),
        blueprint("waits", script("before", "true"), {"name": "pause", "uses": "wait", "with": {"for": "5200ms"}}),
        witness("once", "held", gated="held", idempotent=False),
    )


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def nothing_is_lost_and_nothing_runs_twice(mesh: Roles, blueprints: None) -> AsyncIterator[None]:
    """The record's invariants, after each test here."""
    yield
    reported = await record.replay(mesh.plain_url)
    record.check_endings(reported, reported.created)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the tasks record their runs."""
    return tmp_path / "lines"


async def held(mesh: Roles, file: Path, blueprint: str = "gated") -> str:
    """An order that has started, and waits in its task `held` for its gate."""
    order = await mesh.order(blueprint, inputs={"file": str(file), "gate": f"{file}.gate"})
    await eventually(lambda: any(line.startswith("tick") for line in words(file)), what="a task that waits")
    await mesh.until(order, lambda found: found["jobs"] and found["jobs"][-1]["name"] == "held")  # it is on the record
    return order


def open_gate(file: Path) -> None:
    """Let the order continue."""
    Path(f"{file}.gate").touch()


async def checked(mesh: Roles, file: Path, order: str) -> list[record.Line]:
    """The order has finished, and its tasks kept the rules."""
    found = await mesh.final(order)
    assert found["state"] == "finished", found
    lines = record.read_lines(file)
    record.check_lines(lines, await record.replay(mesh.plain_url))
    return lines


def starts(lines: list[record.Line]) -> list[str]:
    """Which tasks were started, in order."""
    return [line.job for line in lines if line.word == "start"]


async def test_a_killed_agent_takes_its_tasks_along_and_the_next_one_goes_on(mesh: Roles, file: Path) -> None:
    order = await held(mesh, file)
    pid = record.read_lines(file)[-1].pid
    await mesh.kill("e1")
    await eventually(lambda: not is_alive(pid), 2, "the end of the task of a dead agent")
    await mesh.start("e1")
    open_gate(file)
    assert starts(await checked(mesh, file, order)) == ["before", "held", "held", "after"]


async def test_a_lost_agents_order_is_given_up_when_its_lease_is_over(mesh: Roles, file: Path) -> None:
    """Nobody comes back to report: the broker finds out by itself, and says so."""
    order = await held(mesh, file)
    await mesh.kill("e1")
    found = await mesh.until(order, lambda found: found["state"] == "offered")
    assert found["attempt"] == 1
    open_gate(file)
    await mesh.start("e1")
    await checked(mesh, file, order)
    history = (await mesh.get(f"orders/{order}/history"))["items"]
    assert [entry["type"] for entry in history].count("lost") == 1


async def test_a_task_that_may_not_run_twice_fails_its_order_as_lost(mesh: Roles, file: Path) -> None:
    order = await held(mesh, file, "once")
    await mesh.kill("e1")
    found = await mesh.final(order)
    assert found["state"] == "failed"
    assert found["reason"].startswith("lost: ")
    assert "'held' must not run twice" in found["reason"]
    await mesh.start("e1")
    assert starts(record.read_lines(file)) == ["held"]


async def test_the_broker_may_die_right_after_it_accepted_an_order(mesh: Roles, file: Path) -> None:
    open_gate(file)
    order = await mesh.order("gated", inputs={"file": str(file), "gate": f"{file}.gate"})
    await mesh.restart("broker")
    assert starts(await checked(mesh, file, order)) == ["before", "held", "after"]


async def test_the_broker_may_die_while_an_order_is_offered(mesh: Roles, file: Path) -> None:
    open_gate(file)
    order = await mesh.order("gated", "absent", inputs={"file": str(file), "gate": f"{file}.gate"})
    await mesh.restart("broker")
    await mesh.agent("absent")
    assert starts(await checked(mesh, file, order)) == ["before", "held", "after"]


async def test_an_order_may_run_to_its_end_while_no_broker_is_there(mesh: Roles, file: Path) -> None:
    order = await held(mesh, file)
    await mesh.kill("broker")
    open_gate(file)
    await eventually(lambda: len([line for line in words(file) if line.startswith("end")]) == 3, what="three ends")
    await mesh.start("broker")
    assert starts(await checked(mesh, file, order)) == ["before", "held", "after"]


async def test_a_cancel_outlives_the_broker_that_took_it(mesh: Roles, file: Path) -> None:
    order = await held(mesh, file)
    await mesh.post(f"orders/{order}/cancel")
    await mesh.restart("broker")
    assert (await mesh.final(order))["state"] == "cancelled"
    assert starts(record.read_lines(file)) == ["before", "held"]


async def test_the_broker_may_die_while_an_order_waits(mesh: Roles) -> None:
    order = await mesh.order("waits")
    await mesh.until(order, lambda found: found["state"] == "suspended")
    await mesh.restart("broker")
    assert (await mesh.final(order))["state"] == "finished"


async def test_nats_may_die_while_orders_run(mesh: Roles, file: Path) -> None:
    order = await held(mesh, file)
    await mesh.restart("server")
    open_gate(file)
    await checked(mesh, file, order)


@pytest.mark.timeout(180)
async def test_output_comes_whole_and_in_order_though_nats_and_the_broker_died(tmp_path: Path) -> None:
    """On a mesh of its own: if the lease ended before NATS is back, the task would rightly start again."""
    async with Roles.started(tmp_path, "e1", lease="2m") as mesh:
        await mesh.apply(
            machine("e1"), blueprint("count", script("count", "for i in $(seq 40); do echo line $i; sleep 0.05; done"))
        )
        async with mesh.background("run", "count", "--on", "e1", "--follow") as watching:
            await watching.line("line 5")
            await mesh.kill("server", "broker")
            await mesh.start("server")
            await mesh.start("broker")
            assert await watching.ended(60) == 0
    lines = [line.rstrip() for line in watching.lines["out"] if line.startswith("line ")]
    assert lines == [f"line {number}" for number in range(1, 41)]


async def test_nats_may_stay_away_for_longer_than_a_lease(mesh: Roles, file: Path) -> None:
    """The agent kills its tasks before anybody else could start them, and they run again."""
    order = await held(mesh, file)
    pid = record.read_lines(file)[-1].pid
    await mesh.kill("server")
    await eventually(lambda: not is_alive(pid), 5, "the end of a task whose lease has expired")
    open_gate(file)
    await mesh.start("server")
    assert starts(await checked(mesh, file, order))[-1] == "after"


async def test_all_may_die_at_once(mesh: Roles, file: Path) -> None:
    order = await held(mesh, file)
    await mesh.kill("server", "broker", "e1")
    for name in ("server", "broker", "e1"):
        await mesh.start(name)
    open_gate(file)
    assert starts(await checked(mesh, file, order)).count("before") == 1


async def test_deleted_tables_are_rebuilt_row_for_row(mesh: Roles, file: Path) -> None:
    """The last test here: after this, and all that has happened above."""
    order = await held(mesh, file)
    await mesh.kill("broker", "e1")
    for name in ("broker", "e1"):
        await mesh.start(name)
    open_gate(file)
    await checked(mesh, file, order)
    await mesh.quiet()
    before, after = await mesh.rebuilt()
    assert not record.difference(before, after)
    assert order in [row[1] for row in before["orders"]]
