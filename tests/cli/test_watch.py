"""What is said of an order while somebody waits for it: why it waits, as that changes, and when it loses its agent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from muster.cli.main import run
from muster.cli.output import console
from muster.cli.watch import Watch
from tests.kit.answers import Answer, answering

ORDER = {"id": "3f6a" * 4, "blueprint": "x", "element": "web01", "created_at": "2030-01-01T00:00:00Z", "jobs": []}
LOSS = {"attempt": 1, "element": "web01", "at": "2030-01-01T00:00:01Z", "reason": "its lease expired"}
BUSY = "1 of 1 slots of web01 are busy: order 77aa"
LIFE: tuple[dict[str, Any], ...] = (
    {"state": "queued", "reason": "drained"},
    {"state": "queued", "reason": "drained"},
    {"state": "offered", "reason": BUSY},
    {"state": "running"},
    {"state": "running", "reason": "the agent of web01 is offline"},
    {"state": "running", "losses": [LOSS], "element": "web02"},
    {"state": "finished", "losses": [LOSS], "element": "web02"},
)
SAID = [
    "muster: order 3f6a3f6a3f is queued: drained",
    f"muster: order 3f6a3f6a3f is offered: {BUSY}",
    "muster: order 3f6a3f6a3f is running on web01",
    "muster: order 3f6a3f6a3f is running on web01: the agent of web01 is offline",
    "muster: order 3f6a3f6a3f lost its agent on web01: its lease expired",
    "muster: order 3f6a3f6a3f is running on web02",
]


def at(step: int) -> dict[str, Any]:
    """The order in one moment of its life."""
    moment = LIFE[min(step, len(LIFE) - 1)]
    return {**ORDER, "started_at": None, "finished_at": "x" if moment["state"] == "finished" else None, **moment}


def test_each_change_is_reported_once(capsys: pytest.CaptureFixture[str]) -> None:
    watch = Watch(None, "table")  # type: ignore[arg-type]  # it asks nothing here
    for step in range(len(LIFE)):
        watch.report(at(step))
    assert capsys.readouterr().err.splitlines() == SAID


def test_an_order_that_runs_at_once_needs_no_word(capsys: pytest.CaptureFixture[str]) -> None:
    watch = Watch(None, "table")  # type: ignore[arg-type]
    for step in (3, 3, 6):
        watch.report(at(step) | {"losses": []})
    assert not capsys.readouterr().err


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_programs_see_nothing_on_the_way(form: Any, capsys: pytest.CaptureFixture[str]) -> None:
    Watch(None, form).report(at(0))  # type: ignore[arg-type]
    assert not capsys.readouterr().err


def test_a_command_that_waits_reports_every_change(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("muster.cli.watch.REPORT_INTERVAL", 0.01)

    def answer(asked_before: int) -> Answer:
        if asked_before == 1:
            return 201, "application/json", json.dumps({"orders": [at(0)]}).encode()
        return 200, "application/json", json.dumps(at(asked_before - 2) | {"finished_at": _end(asked_before)}).encode()

    def _end(asked_before: int) -> str | None:
        return "2030-01-01T00:00:02Z" if asked_before - 2 >= len(LIFE) - 1 else None

    with answering(answer) as server:
        assert run(["run", "x", "--on", "web01", "--wait", "--api", server.url]) == 0
    reported = capsys.readouterr()
    assert reported.err.splitlines() == SAID
    assert "finished on web02" in reported.out


def test_a_parent_is_explained_with_its_children(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    console.cache_clear()
    child = {**at(2), "id": "c41d" * 4, "blueprint": "part", "parent": ORDER["id"]}
    parent = {**at(0), "version": 1, "state": "suspended", "reason": "children", "children": {child["id"]: {}}}

    def answer(asked_before: int) -> Answer:
        body = {"order": parent} if asked_before == 1 else {"items": [child], "next": None}
        return 200, "application/json", json.dumps(body).encode()

    with answering(answer) as server:
        assert run(["explain", "3f6a", "--api", server.url]) == 0
    below = capsys.readouterr().out.partition("Children")[2].splitlines()
    assert [line for line in below if line.startswith("c41dc41dc4") and "part" in line and BUSY in line], below
