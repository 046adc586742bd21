"""What every test may ask for."""

from __future__ import annotations

import os
import sys

from hypothesis import settings

from muster.mesh.service import rest_the_collector

pytest_plugins = ["tests.kit.servers", "tests.kit.meshes", "tests.kit.leaks"]

# Hundreds of processes start below; none of them should compile its libraries anew.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Other examples at each run: half as many find as much over two runs, and the suite stays under five minutes.
settings.register_profile("suite", max_examples=50, deadline=None)
settings.load_profile("suite")


def pytest_collection_finish() -> None:
    """Hundreds of brokers start in this process, beside all tests and their libraries; as in a broker's own process."""
    rest_the_collector()
