"""After a test with real processes: none of them is left."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import psutil
import pytest

MARK = "MUSTER_TEST_MARK"
"""Children inherit it, daemons that left their session too, so nobody escapes."""

FOLDERS = {"agent", "chaos", "cli", "docs", "e2e", "story"}
"""Tests that start processes; in the others the check would only cost time."""


def marked(mark: str) -> list[psutil.Process]:
    """Every process that was started under `mark`."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


@pytest.fixture(autouse=True)
def no_process_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a process behind, and end that process."""
    if request.path.parent.name not in FOLDERS:
        yield
        return
    mark = uuid.uuid4().hex
    os.environ[MARK] = mark
    try:
        yield
    finally:
        del os.environ[MARK]
    left = marked(mark)
    _, alive = psutil.wait_procs(left, timeout=2)  # those that are ending may end
    names = [" ".join(process.cmdline()) for process in alive if process.status() != psutil.STATUS_ZOMBIE]
    for process in alive:
        process.kill()
    assert not names, f"left running by {request.node.name}: {names}"
