"""The kit's own claims: a helper that lies makes every test lie."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.leaks import MARK, marked
from tests.kit.processes import Program, clean_env
from tests.kit.waiting import deadline, eventually


async def test_a_deadline_fails_with_what_did_not_happen() -> None:
    with pytest.raises(AssertionError, match=r"not within 0\.01 s: the flood"):
        async with deadline(0.01, "the flood"):
            await asyncio.Event().wait()


async def test_a_deadline_does_not_claim_another_ones_timeout() -> None:
    with pytest.raises(TimeoutError):
        async with deadline(5), asyncio.timeout(0.01):
            await asyncio.Event().wait()


async def test_eventually_takes_assertions_as_not_yet_and_reports_the_last_one() -> None:
    tries: list[int] = []

    def third_time() -> int:
        tries.append(1)
        assert len(tries) >= 3, f"only {len(tries)}"
        return len(tries)

    assert await eventually(third_time) == 3
    with pytest.raises(AssertionError, match="never"):
        await eventually(lambda: False, within=0.05, what="never")


async def test_eventually_shows_the_last_complete_answer_of_a_check_that_the_deadline_interrupts() -> None:
    looks = 0

    async def slower() -> bool:
        nonlocal looks
        looks += 1
        if looks > 1:
            await asyncio.Event().wait()
        return False

    with pytest.raises(AssertionError, match=r"not within 0\.1 s: never; last answer: False"):
        await eventually(slower, within=0.1, what="never")
    with pytest.raises(AssertionError, match="the first check was interrupted"):
        await eventually(slower, within=0.1, what="never")


async def test_a_tree_is_killed_with_those_who_left_the_session() -> None:
    script = "setsid sleep 1000 & echo started; wait"
    async with Program.start(["bash", "-c", script]) as program:
        await program.line("started")
        tree = program.tree()
        assert len(tree) == 2
        await program.kill_tree()
        await eventually(lambda: not [one for one in tree if one.is_running() and one.status() != "zombie"])


async def test_a_line_is_missed_at_once_when_the_process_has_ended() -> None:
    async with Program.start([sys.executable, "-c", "print('something else')"]) as program:
        with pytest.raises(AssertionError, match="ended without printing"):
            await program.line("hello", within=20)


def test_a_daemon_that_escaped_is_found_by_its_mark() -> None:
    env = os.environ | {MARK: "kit-test"}
    escaped = subprocess.Popen(["setsid", "sleep", "1000"], env=env)
    try:
        assert escaped.pid in [process.pid for process in marked("kit-test")]
    finally:
        escaped.send_signal(signal.SIGKILL)
        escaped.wait()


def test_the_environment_of_tests_is_nobodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSTER_API", "http://production")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/home/somebody")
    env = clean_env(tmp_path, MUSTER_TOKEN="t")
    assert "MUSTER_API" not in env
    assert "XDG_CONFIG_HOME" not in env
    assert (env["HOME"], env["MUSTER_TOKEN"]) == (str(tmp_path), "t")
