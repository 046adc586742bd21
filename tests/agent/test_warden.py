"""What ends tasks when their agent cannot, and what it must never end."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from muster.agent.child import SPAWNERS, _threads
from muster.agent.output import Output, Outputs
from muster.agent.process import run_process
from muster.agent.session import started
from muster.agent.warden import MARK, SCRIPT, Warden, end_leftovers
from muster.mesh.jetstream import Publisher
from tests.agent.broker_stand_in import StandIn

GONE = f"gone{os.getpid()}"
"""An agent's id.  A warden kills what bears the marks of its agent, also what a test beside this one has started."""


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own, marked as the first one of the agent."""
    process = subprocess.Popen(["sleep", "300"], start_new_session=True, env={**os.environ, MARK: f"{GONE}.1"})
    yield process
    process.kill()
    process.wait()


async def test_a_program_that_was_only_being_started_is_found_by_its_mark(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    async with Warden(tmp_path, GONE) as warden:
        assert warden.start() == f"{GONE}.1"
    assert sleeper.wait(5) == -9


async def test_a_program_that_could_not_be_started_is_forgotten(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    async with Warden(tmp_path, GONE) as warden:
        warden.failed(warden.start())
    assert sleeper.poll() is None


async def test_what_has_ended_is_not_killed(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    async with Warden(tmp_path, GONE) as warden:
        warden.hold(sleeper.pid, warden.start())
        warden.free(sleeper.pid)
    assert sleeper.poll() is None


async def test_a_daemon_of_a_task_before_the_last_is_left_alone(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    last = subprocess.Popen(["sleep", "300"], start_new_session=True, env={**os.environ, MARK: f"{GONE}.2"})
    async with Warden(tmp_path, GONE) as warden:
        warden.hold(12_345_678, warden.start())  # the task that has started the sleeper and left it behind
        warden.free(12_345_678)
        warden.start()
    assert last.wait(5) == -9
    assert sleeper.poll() is None


async def test_a_start_that_was_cut_off_is_forgotten_once_it_is_undone(
    broker: StandIn, tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    output = Output(Outputs(Publisher(broker.client), limit=1), "order", "job", claim=1, attempt=1)
    async with Warden(tmp_path / "groups", GONE) as warden:
        running = run_process(["sleep", "300"], env={}, cwd=tmp_path, output=output, warden=warden, grace=lambda: 0.0)
        task = asyncio.create_task(running)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await nothing_starts()
    assert sleeper.poll() is None, "it was left behind under a mark that is not in doubt any more"


async def nothing_starts() -> None:
    """What threads were starting is started, and the loop has heard of it."""
    loop, met = asyncio.get_running_loop(), threading.Barrier(SPAWNERS)
    await asyncio.gather(*(loop.run_in_executor(_threads(), met.wait) for _ in range(SPAWNERS)))


@pytest.mark.parametrize("told", ["", "= 1\n= \n", "= 1\n+ 12345678\n= 2\n- 12345678\n= \n"])
def test_of_a_thousand_agents_that_rest_no_warden_looks_at_all_processes(told: str) -> None:
    nothing = {"PATH": "/nowhere"}  # to look takes grep
    ended = subprocess.run(["/bin/sh", "-c", SCRIPT, "warden", GONE], input=told.encode(), env=nothing, check=False)
    assert ended.returncode == 0


async def test_what_is_held_is_killed(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    async with Warden(tmp_path, GONE) as warden:
        warden.hold(sleeper.pid, warden.start())
    assert sleeper.wait(5) == -9


def test_a_leftover_is_killed_at_the_next_start(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    (tmp_path / GONE).write_text(f"+{sleeper.pid} {started(sleeper.pid)}\n")
    assert end_leftovers(tmp_path) == 1
    assert sleeper.wait(5) == -9
    assert not list(tmp_path.iterdir())


def test_a_number_that_is_used_again_is_left_alone(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    (tmp_path / GONE).write_text(f"+{sleeper.pid} {started(sleeper.pid) - 1}\n+12")
    assert end_leftovers(tmp_path) == 0
    assert sleeper.poll() is None


async def test_the_journal_of_an_agent_that_lives_is_left_alone(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    async with Warden(tmp_path, "alive"):
        (tmp_path / "alive").write_text(f"+{sleeper.pid} {started(sleeper.pid)}\n")
        assert end_leftovers(tmp_path) == 0
        assert sleeper.poll() is None
