"""What a broker keeps in memory does not grow with the size of what comes."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import msgspec
import pytest

from muster.broker.main import Broker
from muster.mesh import records
from muster.mesh.caller import Caller
from tests.kit.waiting import deadline

COUNT = 2000
SIZE = 2**20
LIMIT = 500.0
"""MiB of resident memory at its peak: a fourth of what comes.  The kernel counts it, so load changes nothing."""


def peak(pid: int) -> float:
    """The most resident memory that a process ever had, in MiB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_two_thousand_records_of_a_mebibyte_are_read_within_bounds(broker: Broker, tmp_path: Path) -> None:
    event = msgspec.Raw(b'{"body": "%s"}' % (b"x" * SIZE))
    for number in range(COUNT):
        fired = records.Fired(
            id=f"firing{number:06}",
            trigger="bell",
            version=1,
            by=Caller(name="test"),
            event=event,
            rejected="no",
        )
        await broker.publisher.send(records.subject(fired), records.encode(fired), within=60)
    argv = ["-m", "muster.cli", "broker", "--server", broker.settings.server, "--data", str(tmp_path / "second")]
    second = await asyncio.create_subprocess_exec(
        sys.executable, *argv, "--http", "127.0.0.1:0", "--open", stdout=asyncio.subprocess.PIPE
    )
    assert second.stdout is not None
    try:
        async with deadline(600, "a broker that has read the log"):
            while not (line := await second.stdout.readline()).startswith(b"ready broker"):
                assert line, "it has ended"
        assert peak(second.pid) < LIMIT
    finally:
        second.terminate()
        await second.wait()
