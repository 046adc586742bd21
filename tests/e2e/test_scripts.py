"""Scripts that misbehave: they fork, print without end, print anything but text, and do not listen."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import msgspec
import psutil
import pytest
import pytest_asyncio

from tests.kit.blueprints import blueprint, machine, script, witness, words
from tests.kit.processes import is_alive
from tests.kit.roles import Roles
from tests.kit.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

MIB = 1024 * 1024


DEAF = "trap '' TERM; echo $$ > {file}; while :; do read -t 9 <> <(:) || :; done"


class Deaf(msgspec.Struct, frozen=True):
    """An order that does not listen, cancelled."""

    order: str
    pid: int
    at: float


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def deaf(mesh: Roles, tmp_path_factory: pytest.TempPathFactory) -> Deaf:
    """Cancelled before the first test here, since its grace takes 10 s; the last test looks what became of it."""
    file = tmp_path_factory.mktemp("deaf") / "pid"
    await mesh.apply(blueprint("deaf", script("work", DEAF.format(file=file))))
    order = await mesh.order("deaf")
    pid = int((await eventually(lambda: words(file), what="a task that runs"))[0])
    await mesh.post(f"orders/{order}/cancel")
    return Deaf(order, pid, time.monotonic())


async def test_a_daemon_lives_on_and_does_not_hold_its_order(mesh: Roles, tmp_path: Path) -> None:
    text = f"setsid sleep 300 & echo $! > {tmp_path}/daemon; sleep 300 & echo $! > {tmp_path}/child; echo started"
    await mesh.apply(blueprint("daemon", script("start", text)))
    began = time.monotonic()
    order = await mesh.run("daemon")
    assert time.monotonic() - began < 60  # the daemon lives for 300 s
    assert order["state"] == "finished"
    assert await mesh.output(order["id"]) == b"started\n"
    daemon, child = (int(words(tmp_path / name)[0]) for name in ("daemon", "child"))
    assert not is_alive(child)
    os.kill(daemon, signal.SIGKILL)  # it was there


async def test_output_may_be_anything(mesh: Roles) -> None:
    data = bytes(range(256)) * 300
    text = "#!/usr/bin/env python3\nimport sys\nsys.stdout.buffer.write(bytes(range(256)) * 300)"
    await mesh.apply(blueprint("binary", script("print", text)))
    order = await mesh.run("binary")
    assert await mesh.output(order["id"]) == data
    assert (await mesh.cli("logs", order["id"], "-o", "json")).code == 0
    assert (await mesh.cli("logs", order["id"], "--follow")).code == 0


async def test_output_without_end_costs_no_memory_and_is_cut_with_words(mesh: Roles) -> None:
    """More than the limit of 256 MiB a job; the middle is left out, and the script runs on."""
    await mesh.apply(blueprint("flood", script("print", "head -c 300000000 /dev/zero | tr '\\0' x; echo end")))
    processes = [psutil.Process(mesh.programs[name].pid) for name in ("broker", "e1")]
    before = [process.memory_info().rss for process in processes]
    order = await mesh.order("flood")
    most = [0, 0]

    async def ended() -> bool:
        most[:] = [max(top, process.memory_info().rss) for top, process in zip(most, processes, strict=True)]
        return bool((await mesh.get(f"orders/{order}"))["finished_at"])

    await eventually(ended, 40, "the end of the flood")
    assert (await mesh.final(order))["state"] == "finished"
    assert [(top - first) // MIB < 128 for top, first in zip(most, before, strict=True)] == [True, True], (before, most)
    size, tail = 0, b""
    async with mesh.http.stream("GET", f"/api/v1/orders/{order}/output") as answer:
        async for part in answer.aiter_bytes():
            size, tail = size + len(part), (tail + part)[-70_000:]
    assert 256 * MIB <= size < 257 * MIB
    assert b" bytes are missing here]\nx" in tail
    assert tail.endswith(b"xend\n")


async def test_a_cancel_ends_a_running_task_and_all_that_it_started(mesh: Roles, tmp_path: Path) -> None:
    await mesh.apply(
        blueprint(
            "long",
            script("work", f"sleep 300 & echo $! > {tmp_path}/pid; wait"),
            on_failure=[script("mend", "true")],
            always=[script("tidy", "true")],
        )
    )
    order = await mesh.order("long")
    pid = int((await eventually(lambda: words(tmp_path / "pid"), what="a task that runs"))[0])
    reported = await mesh.cli("cancel", order)
    assert (reported.code, "cancelling" in reported.stdout) == (0, True)
    found = await mesh.final(order)
    assert (found["state"], found["reason"]) == ("cancelled", "cancelled by http")
    assert {job["name"]: job["state"] for job in found["jobs"]} == {"work": "cancelled", "tidy": "finished"}
    assert not is_alive(pid)
    again = await mesh.cli("cancel", order)
    assert (again.code, "nothing to cancel" in again.stderr) == (3, True)


async def test_an_order_that_waits_is_cancelled_at_once(mesh: Roles) -> None:
    await mesh.apply(machine("nobody"), witness("some", "work"))
    order = await mesh.order("some", "nobody", inputs={"file": "/dev/null"})
    assert (await mesh.post(f"orders/{order}/cancel"))["state"] == "cancelled"


async def test_a_script_that_ignores_sigterm_is_killed_after_its_grace(mesh: Roles, deaf: Deaf) -> None:
    assert (await mesh.final(deaf.order))["state"] == "cancelled"
    assert time.monotonic() - deaf.at > 9
    assert not is_alive(deaf.pid)
