"""Watching orders while the mesh is away or hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from muster.cli.api import Api
from muster.cli.follow import Limit, follow, wait
from muster.cli.main import run
from muster.mesh.errors import WaitTimeoutError
from tests.kit.answers import Answer, answering
from tests.kit.ports import free_port

ORDERS = [{"id": "3f6a" * 4, "element": "web01"}]


@contextmanager
def hanging() -> Iterator[str]:
    """An API that takes requests and never answers."""
    release = threading.Event()

    def answer(_: int) -> Answer | None:
        release.wait(20)
        return None

    with answering(answer) as server:
        try:
            yield server.url
        finally:
            release.set()


def watches() -> list[Callable[[Api, Limit], object]]:
    return [
        lambda api, limit: wait(api, ORDERS, limit),
        lambda api, limit: follow(api, ORDERS, "table", limit),
    ]


@pytest.mark.parametrize("watch", watches())
def test_the_time_limit_is_kept_though_the_mesh_hangs_or_is_gone(watch: Callable[[Api, Limit], object]) -> None:
    with hanging() as url:
        for place in (url, f"http://127.0.0.1:{free_port()}"):
            began = time.monotonic()
            with Api(place) as api, pytest.raises(WaitTimeoutError, match=f"order {ORDERS[0]['id']} goes on"):
                watch(api, Limit(0.3))
            assert time.monotonic() - began < 2


def test_orders_are_named_when_the_mesh_goes_away_after_they_were_made(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("muster.cli.follow.PATIENCE", 0.1)
    made = (201, "application/json", b'{"orders": [{"id": "3f6a"}]}')
    with answering(lambda count: made if count == 1 else (502, "text/plain", b"")) as server:
        assert run(["run", "x", "--on", "web01", "--wait", "--api", server.url]) == 4
    assert "order 3f6a goes on" in capsys.readouterr().err
