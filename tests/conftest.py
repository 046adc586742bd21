"""What every test may ask for."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

from muster.mesh.service import rest_the_collector

pytest_plugins = ["tests.kit.servers", "tests.kit.meshes", "tests.kit.leaks"]

# Hundreds of processes start below; none of them should compile its libraries anew.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Other examples at each run: half as many find as much over two runs, and the suite stays under five minutes.
settings.register_profile("suite", max_examples=50, deadline=None)
settings.load_profile("suite")


MESHES = {"": "muster up", "tests/e2e": "roles"}
"""Where a mesh is defined that many tests share (as pytest says it): its start costs seconds, so one worker has it."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests that share a mesh, or a fixture of their module, into one worker (`--dist=loadgroup`)."""
    for item in items:
        if isinstance(item, pytest.Function) and (group := _group(item)):
            item.add_marker(pytest.mark.xdist_group(group))


def _group(item: pytest.Function) -> str | None:
    found = {name: known[-1] for name, known in item._fixtureinfo.name2fixturedefs.items()}
    mesh = found.get("mesh")
    if mesh is not None and mesh.scope == "session" and mesh.baseid in MESHES:
        return MESHES[mesh.baseid]
    module = item.nodeid.partition("::")[0]
    return module if any(each.scope == "module" and each.baseid == module for each in found.values()) else None


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """A command that runs in this process configures its log: the next test must find its own."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def pytest_collection_finish() -> None:
    """Hundreds of brokers start in this process, beside all tests and their libraries; as in a broker's own process."""
    rest_the_collector()
