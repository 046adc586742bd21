"""Whoever can see the processes of a mesh finds no secret there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.processes import clean_env, running

pytestmark = pytest.mark.slow

SECRETS = {"HOOK_SECRET": "hunter2", "MUSTER_TOKEN": "first-token-of-it", "MUSTER_NATS_TOKEN": "second-token-of-it"}


async def test_no_process_of_a_mesh_shows_a_secret(tmp_path: Path) -> None:
    env = clean_env(tmp_path, MUSTER_DATA=str(tmp_path / "data"), **SECRETS)
    ports = ("--http", "127.0.0.1:0", "--nats", "127.0.0.1:0")
    async with running("up", *ports, "--element", "e1", env=env) as program:
        await program.line("ready ", within=60)
        tree = program.tree()
        assert len(tree) >= 5, "the supervisor, NATS, the broker and its writer, the agent and its spawner"
        shown = b"".join(environment(process.pid) + " ".join(process.cmdline()).encode() for process in tree)
    assert [name for name, value in SECRETS.items() if value.encode() in shown] == []


def environment(pid: int) -> bytes:
    """What /proc shows; nothing where it is closed, even to the same account."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except PermissionError:
        return b""
