"""A forked command is what a started one is: the same answer, environment, folder, session and end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import psutil
import pytest

from tests.kit.forkserver import MUSTER, ROOT, Forked, can_fork
from tests.kit.ports import free_port
from tests.kit.processes import Program, clean_env
from tests.kit.waiting import deadline, eventually

Start = Callable[[Sequence[str], dict[str, str], Path], AbstractAsyncContextManager[Program]]


@asynccontextmanager
async def forked(args: Sequence[str], env: dict[str, str], cwd: Path) -> AsyncIterator[Program]:
    argv = [*MUSTER, *args]
    assert can_fork(argv, env)
    async with Program.start(argv, env=env, cwd=cwd) as program:
        assert isinstance(program.process, Forked)
        yield program


@asynccontextmanager
async def started(args: Sequence[str], env: dict[str, str], cwd: Path) -> AsyncIterator[Program]:
    argv = [sys.executable, "-W", "default", *MUSTER[1:], *args]
    async with Program.start(argv, env=env, cwd=cwd) as program:
        assert not isinstance(program.process, Forked)
        yield program


BOTH = pytest.mark.parametrize("start", [forked, started])


@BOTH
@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["--version"], 0, "."),
        (["nope"], 2, 'Unknown command "nope"'),
        (["run", "b", "--on", "e1", "--inputs", "here.yaml"], 2, "here.yaml"),
        (["get", "machines"], 4, "no mesh answers at http://127.0.0.1:"),
    ],
)
async def test_it_answers_with_streams_and_code(
    start: Start, args: list[str], code: int, said: str, tmp_path: Path
) -> None:
    """Its folder and its environment are its own: the file is there, and the address is in a variable."""
    (tmp_path / "here.yaml").write_text("[1, 2")
    env = clean_env(tmp_path, MUSTER_API=f"http://127.0.0.1:{free_port()}")
    async with start(args, env, tmp_path) as program:
        assert await program.ended() == code, program
        assert said in (program.stderr if code else program.stdout), program
        assert not (program.stdout if code else program.stderr)


@BOTH
async def test_it_has_a_session_of_its_own(start: Start, tmp_path: Path) -> None:
    async with start(["apply", "-f", "-"], clean_env(tmp_path), ROOT) as program:
        await eventually(lambda: os.getsid(program.pid) == program.pid)


@BOTH
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_signal_ends_it_and_its_code_says_which(start: Start, number: signal.Signals, tmp_path: Path) -> None:
    async with start(["apply", "-f", "-"], clean_env(tmp_path), ROOT) as program:
        await eventually(lambda: psutil.Process(program.pid).status() == psutil.STATUS_SLEEPING)
        assert await program.stop(number) == -number


@BOTH
async def test_an_interrupt_is_no_traceback(start: Start, tmp_path: Path) -> None:
    async with start(["apply", "-f", "-"], clean_env(tmp_path), ROOT) as program:
        await eventually(lambda: psutil.Process(program.pid).status() == psutil.STATUS_SLEEPING)
        assert await program.stop(signal.SIGINT) in {130, -signal.SIGINT}
        assert "Traceback" not in program.stderr


async def test_many_are_forked_at_once(tmp_path: Path) -> None:
    async def version() -> str:
        async with forked(["--version"], clean_env(tmp_path), ROOT) as program:
            assert await program.ended() == 0
            return program.stdout

    async with deadline(30):
        answers = await asyncio.gather(*[version() for _ in range(20)])
    assert len(set(answers)) == 1


@pytest.mark.parametrize("changed", [{"PYTHONPATH": "/elsewhere"}, {"LC_ALL": "C.UTF-8"}, {"PYTHONUTF8": "1"}])
def test_what_python_would_start_otherwise_is_not_forked(changed: dict[str, str], tmp_path: Path) -> None:
    env = clean_env(tmp_path)
    assert can_fork([*MUSTER, "get"], env)
    assert not can_fork([*MUSTER, "get"], env | changed)
    assert not can_fork([sys.executable, "-c", "pass"], env)
