"""Passwords on our command lines, and in what we say."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from muster.cli.command_line import without_passwords
from tests.kit.ports import free_port
from tests.kit.processes import clean_env, muster, running
from tests.kit.waiting import eventually

URL = "nats://u:s3cret@h:1"


@pytest.mark.parametrize(
    ("argv", "kept"),
    [
        (["agent", "--server", URL, "--element", "a"], ["agent", "--element", "a"]),
        (["agent", f"--server={URL}", "--element", "a"], ["agent", "--element", "a"]),
    ],
)
def test_a_url_with_a_password_leaves_the_command_line(argv: list[str], kept: list[str]) -> None:
    assert without_passwords(argv) == (kept, {"MUSTER_SERVER": URL})


@pytest.mark.parametrize(
    "argv", [[], ["agent", "--server"], ["agent", "--server", "nats://h:1"], ["run", "x", "-i", f"url={URL}"]]
)
def test_other_command_lines_stay(argv: list[str]) -> None:
    assert without_passwords(argv) == (argv, {})


async def test_a_password_is_said_nowhere(tmp_path: Path) -> None:
    url = f"nats://u:s3cret@127.0.0.1:{free_port()}"
    env = clean_env(tmp_path)
    async with running("agent", "--server", url, "--element", "a", "--log-level", "debug", env=env) as agent:
        await agent.line("nats.waiting", stream="err")
        process = psutil.Process(agent.pid)
        await eventually(lambda: "s3cret" not in " ".join(process.cmdline()), what="a command line without it")
        assert "agent" in process.cmdline()
        await agent.stop()
        reported = await muster("doctor", env=env | {"MUSTER_SERVER": url})
        assert "s3cret" not in agent.stdout + agent.stderr + reported.stdout + reported.stderr
        assert "no NATS server answers at nats://127.0.0.1" in reported.stdout
