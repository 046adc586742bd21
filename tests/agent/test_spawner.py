"""What starts tasks and ends them: the grace, what is left behind, and what it must never end."""

from __future__ import annotations

import asyncio
import os
import struct
import subprocess
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from muster.agent.leftovers import MARK, end_leftovers, open_ledger
from muster.agent.settings import AgentSettings
from muster.agent.spawner.ledger import Ledger, sessions
from muster.agent.spawning import Program, Spawner
from muster.mesh import records
from muster.mesh.model import OrderState
from tests.agent.broker_stand_in import StandIn
from tests.agent.conftest import running_agent
from tests.agent.test_faults import is_running, pid_in
from tests.kit.waiting import eventually

GONE = f"gone{os.getpid()}"
"""An agent's id."""

SLOW = """\
import os, signal, sys, time
def end(*_):
    os.write(2, b"stopping\\n")
    time.sleep(1)
    os.write(2, b"released\\n")
    sys.exit()
signal.signal(signal.SIGTERM, end)
os.write(2, b"up\\n")
signal.pause()
"""
"""A program that needs time to end.  `timeout` sends the signal once more; that must not interrupt a `print`."""


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own, marked as an agent's that is gone."""
    process = subprocess.Popen(["sleep", "300"], start_new_session=True, env={**os.environ, MARK: GONE})
    yield process
    process.kill()
    process.wait()


@pytest.fixture
async def spawner(tmp_path: Path) -> AsyncIterator[Spawner]:
    """A spawner without an agent's other parts."""
    ledger = open_ledger(tmp_path / "ledger")
    async with Spawner("agent", ledger) as spawner:
        yield spawner
    os.close(ledger)


GRACES = {
    "a program between others": "echo a\npython3 slow\necho b",
    "a pipeline": "python3 slow | cat",
    "a child in the background": "python3 slow & wait",
    "a group of its own": "set -m\npython3 slow &\nwait",
    "a child of timeout": "timeout 100 python3 slow\necho b",
    "a subshell of a trapping shell": "trap 'echo trapped' TERM\n(python3 slow; true)",
    "the program itself": "exec python3 slow",
}


@pytest.mark.parametrize("kind", GRACES)
@pytest.mark.parametrize("end", ["timeout", "cancel", "stop"])
async def test_all_of_a_session_has_the_grace(
    broker: StandIn, agent_settings: AgentSettings, kind: str, end: str
) -> None:
    task = {"name": "a", "run": GRACES[kind], "files": {"slow": SLOW}}
    async with running_agent(agent_settings, kill_grace=timedelta(seconds=20)) as stop:
        order = await broker.order([task | ({"timeout": "3s"} if end == "timeout" else {})])
        output = broker.output[f"{order}.a"]
        await eventually(lambda: b"up\n" in output, within=30)
        if end == "cancel":
            await broker.cancel(order)
        elif end == "stop":
            stop.set()
        await eventually(lambda: b"stopping\n" in output and b"released\n" in output, within=30)
        if end != "stop":
            assert (await broker.done(order)).state in {OrderState.FAILED, OrderState.CANCELLED}


async def test_a_session_in_which_nobody_is_left_ends_before_its_grace(
    broker: StandIn, agent_settings: AgentSettings
) -> None:
    async with running_agent(agent_settings, kill_grace=timedelta(minutes=5)):
        order = await broker.order([{"name": "a", "run": "sleep 300 | cat"}])
        await broker.first(order, records.Reported)
        await broker.cancel(order)
        await broker.done(order)


async def test_a_stopped_process_ends_by_sigterm(broker: StandIn, agent_settings: AgentSettings) -> None:
    async with running_agent(agent_settings, kill_grace=timedelta(minutes=5)):
        order = await broker.order([{"name": "a", "run": "kill -STOP $$"}])
        await broker.first(order, records.Reported)
        await broker.cancel(order)
        await broker.done(order)


@pytest.mark.usefixtures("agent")
async def test_orphans_are_reaped(broker: StandIn, tmp_path: Path) -> None:
    children = f"for n in 1 2 3; do setsid sh -c 'echo $$ > {tmp_path}/'$n'; sleep 0.3' & done; sleep 0.2"
    await broker.done(await broker.order([{"name": "a", "run": children}]))
    pids = [await pid_in(tmp_path / str(n)) for n in (1, 2, 3)]
    await eventually(lambda: not any(psutil.pid_exists(pid) for pid in pids), what="not even zombies")


async def test_a_task_has_the_systems_oom_score_no_signal_ignored_and_no_file_of_ours(
    broker: StandIn, agent_settings: AgentSettings
) -> None:
    score = Path("/proc/self/oom_score_adj")
    before = score.read_text()
    script = "cat /proc/self/oom_score_adj; grep SigIgn /proc/self/status; ls -l /proc/self/fd"
    score.write_text("300")
    try:
        async with running_agent(agent_settings):
            await broker.done(order := await broker.order([{"name": "a", "run": script}]))
    finally:
        score.write_text(before)
    reported = bytes(broker.output[f"{order}.a"]).decode()
    assert reported.split()[0] == "0"
    assert int(reported.split()[2], 16) & 0x7FFFFFFF == 0, "except real-time signals"
    assert reported.count("->") == 4, f"standard streams, and the folder that ls reads: {reported}"


async def test_a_program_that_does_not_exist_says_so(spawner: Spawner, tmp_path: Path) -> None:
    for cwd, is_local in ((tmp_path, True), (tmp_path, False), (tmp_path / "none", True), (tmp_path / "none", False)):
        argv = ["/usr/bin/true" if cwd.name == "none" else "/usr/bin/nothing"]
        program = Program(argv=argv, env={}, cwd=cwd, is_local=is_local)
        with Path(os.devnull).open("wb") as output, pytest.raises(FileNotFoundError):
            await (await spawner.start(program, output.fileno())).ended


async def test_the_environment_passes_bytes_that_are_no_utf_8_and_much_of_it(spawner: Spawner, tmp_path: Path) -> None:
    odd, long = b"\xff\n\xe4".decode(errors="surrogateescape"), "x" * 100_000
    environment = {"ODD": odd, **{f"LONG{n}": long for n in range(5)}}
    with (tmp_path / "out").open("wb") as output:
        program = Program(argv=["/usr/bin/env", "-0"], env=environment, cwd=tmp_path, is_local=True)
        runs = [await spawner.start(program, output.fileno()) for _ in range(20)]
        assert await asyncio.gather(*(run.ended for run in runs)) == [0] * 20
    assert (tmp_path / "out").read_bytes().count(b"ODD=\xff\n\xe4\0") == 20


def test_a_leftover_is_killed_at_the_next_start(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    (tmp_path / GONE).write_bytes(struct.pack("=4i", 0, sleeper.pid, 12_345_678, 0) + b"torn")
    assert end_leftovers(tmp_path) == 1
    assert sleeper.wait(5) == -9
    assert not list(tmp_path.iterdir())


def test_a_number_that_is_used_again_is_left_alone(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    (tmp_path / "another").write_bytes(struct.pack("=i", sleeper.pid))
    assert end_leftovers(tmp_path) == 0
    assert sleeper.poll() is None


def test_the_ledger_of_an_agent_that_lives_is_left_alone(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    file = open_ledger(tmp_path / GONE)
    Ledger(file).note(sleeper.pid)
    assert end_leftovers(tmp_path) == 0
    assert sleeper.poll() is None
    os.close(file)


def test_a_ledger_holds_what_runs_and_uses_its_places_again(tmp_path: Path) -> None:
    file = open_ledger(tmp_path / "ledger")
    ledger = Ledger(file)
    places = [ledger.note(number) for number in range(1, 2000)]
    for place in places[:-1]:
        ledger.clear(place)
    ledger.note(2000)
    assert sorted(sessions(os.pread(file, 1 << 20, 0))) == [1999, 2000]
    os.close(file)


async def test_what_is_started_while_a_spawner_dies_ends_too(spawner: Spawner, tmp_path: Path) -> None:
    program = Program(argv=["/bin/sh", "-c", "echo $$; exec sleep 300"], env={}, cwd=tmp_path, is_local=True)
    with (tmp_path / "out").open("wb") as output:
        runs = [await spawner.start(program, output.fileno()) for _ in range(8)]
        spawner.kill()
        for run in runs:
            with pytest.raises(Exception, match="spawner was killed"):
                await run.ended
        again = Program(argv=["/usr/bin/true"], env={}, cwd=tmp_path)
        assert await (await spawner.start(again, output.fileno())).ended == 0
    assert not any(is_running(int(pid)) for pid in (tmp_path / "out").read_text().split())
