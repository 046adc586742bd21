"""After any death, every accepted order ends once, no finished task runs again, and nothing runs twice at once."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.chaos.driver import chaos

pytestmark = pytest.mark.slow

SECONDS = 8.0


@pytest.mark.timeout(150)
async def test_random_kills_break_no_promise(tmp_path: Path) -> None:
    seed = int(os.environ.get("MUSTER_TEST_SEED") or random.SystemRandom().randrange(10**6))
    print(f"chaos seed {seed}; MUSTER_TEST_SEED={seed} makes the same choices again")  # noqa: T201
    report = await chaos(tmp_path, seed, SECONDS)
    assert report.orders > 10
    assert report.states.get("finished", 0) > 5
