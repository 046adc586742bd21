"""What ends tasks when their agent cannot, and what it must never end."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from muster.agent.session import started
from muster.agent.warden import MARK, SCRIPT, Warden, end_leftovers


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own, marked as the first one of agent `gone`."""
    process = subprocess.Popen(["sleep", "300"], start_new_session=True, env={**os.environ, MARK: "gone.1"})
    yield process
    process.kill()
    process.wait()


async def test_a_program_that_was_only_being_started_is_found_by_its_mark(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    async with Warden(tmp_path, "gone") as warden:
        assert warden.start() == "gone.1"
    assert sleeper.wait(5) == -9


async def test_a_program_that_could_not_be_started_is_forgotten(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    async with Warden(tmp_path, "gone") as warden:
        warden.failed(warden.start())
    assert sleeper.poll() is None


async def test_what_has_ended_is_not_killed(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    async with Warden(tmp_path, "gone") as warden:
        warden.hold(sleeper.pid, warden.start())
        warden.free(sleeper.pid)
    assert sleeper.poll() is None


async def test_a_daemon_of_a_task_before_the_last_is_left_alone(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    last = subprocess.Popen(["sleep", "300"], start_new_session=True, env={**os.environ, MARK: "gone.2"})
    async with Warden(tmp_path, "gone") as warden:
        warden.hold(12_345_678, warden.start())  # the task that has started the sleeper and left it behind
        warden.free(12_345_678)
        warden.start()
    assert last.wait(5) == -9
    assert sleeper.poll() is None


@pytest.mark.parametrize("told", ["", "= 1\n= \n", "= 1\n+ 12345678\n= 2\n- 12345678\n= \n"])
def test_of_a_thousand_agents_that_rest_no_warden_looks_at_all_processes(told: str) -> None:
    nothing = {"PATH": "/nowhere"}  # to look takes grep
    ended = subprocess.run(["/bin/sh", "-c", SCRIPT, "warden", "gone"], input=told.encode(), env=nothing, check=False)
    assert ended.returncode == 0


async def test_what_is_held_is_killed(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    async with Warden(tmp_path, "gone") as warden:
        warden.hold(sleeper.pid, warden.start())
    assert sleeper.wait(5) == -9


def test_a_leftover_is_killed_at_the_next_start(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    (tmp_path / "gone").write_text(f"+{sleeper.pid} {started(sleeper.pid)}\n")
    assert end_leftovers(tmp_path) == 1
    assert sleeper.wait(5) == -9
    assert not list(tmp_path.iterdir())


def test_a_number_that_is_used_again_is_left_alone(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    (tmp_path / "gone").write_text(f"+{sleeper.pid} {started(sleeper.pid) - 1}\n+12")
    assert end_leftovers(tmp_path) == 0
    assert sleeper.poll() is None


async def test_the_journal_of_an_agent_that_lives_is_left_alone(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    async with Warden(tmp_path, "alive"):
        (tmp_path / "alive").write_text(f"+{sleeper.pid} {started(sleeper.pid)}\n")
        assert end_leftovers(tmp_path) == 0
        assert sleeper.poll() is None
