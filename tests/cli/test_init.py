"""As process 1 of a container, the command reaps what others have left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.processes import ROOT

UNSHARE = [
    "unshare",
    *([] if os.geteuid() == 0 else ["--map-root-user"]),
    "--pid",
    "--fork",
    "--mount-proc",
    "--kill-child",
]
HAS_NAMESPACES = subprocess.run([*UNSHARE, "true"], check=False, capture_output=True).returncode == 0
pytestmark = pytest.mark.skipif(not HAS_NAMESPACES, reason="this machine lets us make no process namespace")

ORPHANS = """
import os, subprocess, sys, time
from muster.cli.init import as_a_child_of_process_one
assert os.getpid() == 1
as_a_child_of_process_one()
assert os.getppid() == 1
ran = subprocess.run(["sh", "-c", "for n in 1 2 3; do setsid true & echo $!; done"], capture_output=True, check=True)
pids, end = ran.stdout.split(), time.monotonic() + 10
while any(os.path.exists(f"/proc/{int(pid)}") for pid in pids) and time.monotonic() < end:
    time.sleep(0.01)
print("left" if any(os.path.exists(f"/proc/{int(pid)}") for pid in pids) else "reaped")
sys.exit(7)
"""

SIGNALS = """
import signal, sys
from muster.cli.init import as_a_child_of_process_one
as_a_child_of_process_one()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
print("up", flush=True)
signal.pause()
"""


def started(code: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([*UNSHARE, sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)


def test_orphans_are_reaped_and_the_exit_code_is_the_commands() -> None:
    with started(ORPHANS) as process:
        assert process.communicate(timeout=30)[0] == "reaped\n"
    assert process.returncode == 7


def test_signals_reach_the_command() -> None:
    with started(SIGNALS) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        os.kill(int(children), signal.SIGTERM)
        assert process.wait(30) == 5
