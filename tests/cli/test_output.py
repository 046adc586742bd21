"""What is printed, and where: tables on narrow terminals, parts that are empty, streams of objects."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import yaml

from muster.cli import kinds, orders, output
from muster.cli.follow import Piece, Printer
from muster.cli.main import run
from muster.cli.output import table
from tests.kit.answers import Answer, answering

LONG = "a-name-of-sixty-three-characters-which-is-as-long-as-any-may-be"
ORDER = {
    "id": "3f6a" * 4,
    "blueprint": LONG,
    "element": LONG,
    "state": "cancelling",
    "reason": "words " * 9,
    "created_at": "2020-01-01T00:00:00Z",
}
MACHINE = {"name": LONG, "kind": "machine", "mode": "work_order", "online": True, "labels": {"role": "w" * 40}}


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    output.console.cache_clear()
    yield
    output.console.cache_clear()


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_long_names_are_cut_before_what_matters_is_lost(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    for row, columns in ((ORDER, orders.COLUMNS), (MACHINE, kinds.columns("elements", [MACHINE]))):
        table([row], columns)
        title, line = capsys.readouterr().out.splitlines()[:2]
        assert max(len(title), len(line)) <= width
        reported = [column.title for column in columns if not column.optional]
        assert all(word[:4] in title for word in reported), title
        if width >= 60:
            whole = ("cancelling",) if row is ORDER else ("online", "work_order", "machine")
            assert all(word in line for word in whole), line


def test_a_trigger_is_described_with_its_inputs_and_what_is_empty_stands_in_its_place(
    capsys: pytest.CaptureFixture[str],
) -> None:
    trigger = {"kind": "trigger", "name": "bell", "version": 1, "enabled": False, "inputs": {"ref": "main"}}

    def answer(count: int) -> Answer:
        return 200, "application/json", json.dumps(trigger if count == 1 else {"items": [], "next": None}).encode()

    with answering(answer) as server:
        assert run(["describe", "trigger", "bell", "--api", server.url]) == 0
    reported = capsys.readouterr()
    assert "\nInputs\nref  main\n" in reported.out
    assert "\nRecent firings\nit has not fired yet\n" in reported.out
    assert reported.err == ""


def test_output_that_is_followed_is_a_stream_in_the_language_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    pieces = [Piece(order="3f6a", job="do", claim=1, attempt=1, offset=at, data=b"text\n") for at in (0, 5)]
    for printed, read in (
        ("yaml", yaml.safe_load_all),
        ("json", lambda text: map(json.loads, text.splitlines())),
    ):
        printer = Printer(printed, {"3f6a": "web01"})  # type: ignore[arg-type]
        for piece in pieces:
            printer.piece(piece)
        reported = capsys.readouterr().out
        assert [one["data"] for one in read(reported)] == ["text\n"] * 2
        assert reported.startswith("---\n") == (printed == "yaml")


def test_a_line_without_an_end_stands_before_those_of_the_next_job(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    printer = Printer("table", {"1": "one", "2": "two"})
    for order, job, data in (("1", "a", b"started"), ("2", "a", b"x\n"), ("1", "b", b"next\n"), ("1", "b", b"rest")):
        printer.piece(Piece(order=order, job=job, claim=1, attempt=1, offset=0, data=data))
    printer.ended("1")
    said = capsysbinary.readouterr().out.decode().splitlines()
    assert said == ["two │ x", "one │ started", "one │ next", "one │ rest"]
