"""What it was measured on."""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

from muster.mesh.embedded_nats import find_server


def describe() -> dict[str, str]:
    """The machine, its software, and how busy it was before."""
    server = subprocess.run([find_server(), "--version"], capture_output=True, text=True, check=True, timeout=10)
    libraries = ("nats-py", "msgspec", "uvloop", "litestar")
    return {
        "when": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "fsync": f"{_sync_time():.2f} ms for 4 KiB in the temporary folder (median of 50)",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "nats-server": server.stdout.strip().rpartition(" ")[2],
        "libraries": ", ".join(f"{name} {version(name)}" for name in libraries),
        "commit": _commit(),
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str:
    printed = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=10,
    )
    return printed.stdout.strip() or "unknown"


def _sync_time() -> float:
    """What a small synced write costs here, in milliseconds."""
    times = []
    with tempfile.NamedTemporaryFile() as file:
        for _ in range(50):
            file.write(b"x" * 4096)
            file.flush()
            begin = time.perf_counter()
            os.fsync(file.fileno())
            times.append((time.perf_counter() - begin) * 1e3)
    return sorted(times)[25]
