"""A task ends with all that it started, in any process group; a daemon is left alone."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.agent.broker_stand_in import StandIn
from tests.agent.test_faults import is_running, pid_in
from tests.kit.waiting import eventually

pytestmark = pytest.mark.usefixtures("agent")

APART = "set -m; sleep 300 {output} & echo $! > {path}; set +m"
"""A child in a group of its own, as each job of a shell with `set -m` is."""


async def test_what_timeout_1_runs_ends_at_the_tasks_timeout(broker: StandIn, tmp_path: Path) -> None:
    script = f"timeout 300 sh -c 'echo $$ > {tmp_path}/pid; sleep 300; :'\necho after"
    order = await broker.order([{"name": "a", "run": script, "timeout": "1s"}])
    pid = await pid_in(tmp_path / "pid")
    await broker.done(order)
    assert not is_running(pid)


@pytest.mark.parametrize("output", ["", "> /dev/null 2>&1"])
async def test_a_group_apart_ends_with_a_cancel(broker: StandIn, tmp_path: Path, output: str) -> None:
    script = APART.format(output=output, path=tmp_path / "pid")
    order = await broker.order([{"name": "a", "run": f"{script}; wait"}])
    pid = await pid_in(tmp_path / "pid")
    await broker.cancel(order)
    await broker.done(order)
    assert not is_running(pid)


async def test_a_group_apart_that_holds_the_output_ends_with_its_program(broker: StandIn, tmp_path: Path) -> None:
    order = await broker.order([{"name": "a", "run": APART.format(output="", path=tmp_path / "pid")}])
    pid = await pid_in(tmp_path / "pid")
    await broker.done(order)
    assert not is_running(pid)


async def test_a_daemon_outlives_a_cancel(broker: StandIn, tmp_path: Path) -> None:
    daemon = f"setsid sh -c 'echo $$ > {tmp_path}/daemon; exec sleep 300' > /dev/null 2>&1 &"
    script = APART.format(output="", path=tmp_path / "pid")
    order = await broker.order([{"name": "a", "run": f"{daemon}\n{script}; wait"}])
    daemons, pid = await pid_in(tmp_path / "daemon"), await pid_in(tmp_path / "pid")
    await broker.cancel(order)
    await broker.done(order)
    assert (is_running(daemons), is_running(pid)) == (True, False)
    os.kill(daemons, signal.SIGKILL)
    await eventually(lambda: not is_running(daemons))
