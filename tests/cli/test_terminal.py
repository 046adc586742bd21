"""What others wrote, a reason or an event's data, cannot steer the terminal of whoever reads it."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
import yaml
from hypothesis import given
from hypothesis import strategies as st

from muster.cli import output
from muster.cli.follow import Piece, Printer
from muster.cli.main import run
from muster.cli.terminal import PlainOutput
from tests.kit.answers import Answer, Recorded, answering
from tests.kit.ports import free_port

EVIL = "a\x1b]0;T\x07\x1b[2J\x9b31m\x7f\x85\r\x00b"
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
TIME = "2026-01-01T00:00:00Z"
JOB = {"name": EVIL, "state": "failed", "error": EVIL, "outputs": {EVIL: EVIL}}
ORDER = {
    "id": "3f6a", "blueprint": EVIL, "version": 1, "element": EVIL, "state": "failed", "reason": EVIL, "jobs": [JOB],
    "created_at": TIME, "started_at": TIME, "finished_at": TIME, "created_by": EVIL, "inputs": {EVIL: EVIL},
    "outputs": {EVIL: [EVIL, {EVIL: EVIL}]}, "labels": {EVIL: EVIL}, "children": {EVIL: {"state": EVIL}},
    "losses": [{"at": TIME, "attempt": 1, "element": EVIL, "reason": EVIL}], "trigger": EVIL, "where": EVIL,
}  # fmt: skip
TASK = {"name": EVIL, "uses": EVIL, "when": EVIL, "run": EVIL}
OBJECT = {
    "kind": "machine", "name": EVIL, "summary": EVIL, "params": {EVIL: EVIL}, "labels": {EVIL: EVIL}, "mode": EVIL,
    "inputs": {EVIL: {"default": EVIL, "description": EVIL}}, "tasks": [TASK], "since": TIME,
    "pending": [{"firing": EVIL, "group": EVIL, "until": TIME}],
}  # fmt: skip
FIRING = {
    "firing": EVIL, "id": EVIL, "trigger": EVIL, "version": 1, "state": EVIL, "reason": EVIL, "time": TIME, "key": EVIL,
    "by": EVIL, "event": {EVIL: EVIL, "kind": EVIL, "subject": EVIL}, "orders": ["3f6a"],
}  # fmt: skip
EXPLAINED = {
    "order": ORDER, "meaning": EVIL, "waits": EVIL, "inputs": [{"name": EVIL, "value": EVIL, "source": EVIL}],
    "history": [{"time": TIME, "type": EVIL, "actor": EVIL, "seq": 1, "data": {"reason": EVIL, "jobs": [JOB]}}],
}  # fmt: skip
INFO = {"sequence": 1, "ready": False, "reason": EVIL, "version": EVIL, "troubles": {EVIL: EVIL}, "unconfined": [EVIL]}
PREVIEW = {"orders": [ORDER], "changes": [
    {"kind": EVIL, "name": EVIL, "version": 1, "action": EVIL, "before": {EVIL: EVIL}, "after": {EVIL: [EVIL]}}
]}  # fmt: skip
PROBLEM = {"status": 409, "title": EVIL, "type": EVIL, "detail": EVIL, "errors": [{"message": EVIL, "path": EVIL}]}
EVENT = {"id": "1.0", "kind": f"order.{EVIL}", "subject": EVIL, "time": TIME, "data": {EVIL: EVIL}}
ANSWERS = (
    (r"/output\?.*follow", {"order": "3f6a", "state": "failed"}),
    (r"/explain", EXPLAINED),
    (r"/info", INFO),
    (r"/orders/3f6a", ORDER),
    (r"/orders\?.*dry_run|/apply", PREVIEW),
    (r"/fire", FIRING),
    (r"/firings/", FIRING),
    (r"/firings", {"items": [FIRING], "next": None}),
    (r"/next", {"items": [{"local": EVIL, "due": TIME}]}),
    (r"/orders\b", {"items": [ORDER], "orders": [ORDER], "next": None}),
    (r"/triggers/", OBJECT | {"kind": "trigger"}),
    (r"/blueprints/", OBJECT | {"kind": "blueprint"}),
    (r"/(drain|mode)|/machines/", OBJECT),
    (r"/(machine|trigger)s", {"items": [OBJECT], "next": None}),
)

DOORS = """\
get machines, get orders, get order 3f6a, get firing x, orders, explain 3f6a, firings x, next x, cancel 3f6a, drain x,
describe order 3f6a, describe machine x, describe blueprint x, describe trigger x, describe firing x,
fire x, fire x --follow, fire x --wait, run x --on y, run x --on y --follow --plain, run x --on y --wait,
run x --on y --dry-run, apply -f {file}, apply -f {file} --dry-run, logs 3f6a --job z, events,
doctor --server nats://127.0.0.1:{port} --data {folder}, get \x1b[2J, \x1b[2J, get orders --\x1b[2J"""


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    output.console.cache_clear()
    yield
    output.console.cache_clear()


def answer(path: str, asked_before: int) -> Answer:
    """What a broker says in which all text is hostile; a refusal where it has nothing to say."""
    if "/events" in path and not asked_before:
        return 200, "text/event-stream", f"id: 1.0\ndata: {json.dumps(EVENT)}\n\n".encode()
    for pattern, found in ANSWERS:
        if re.search(pattern, path):
            if "follow" in path:
                return 200, "text/event-stream", f"event: end\ndata: {json.dumps(found)}\n\n".encode()
            return 200, "application/json", json.dumps(found).encode()
    return 409, "application/problem+json", json.dumps(PROBLEM).encode()


@pytest.mark.parametrize("form", ["table", "json", "yaml"])
@pytest.mark.parametrize("door", re.split(r",\s", DOORS))
def test_no_control_character_gets_through_any_door(
    door: str, form: str, tmp_path: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("muster.cli.events.BACKOFF", (0.0,))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    file = tmp_path / "x.yaml"
    file.write_text("kind: machine\nname: x\n")
    servers: list[Recorded] = []

    def answers(count: int) -> Answer:
        (server,) = servers
        path = server.asked[count - 1][0]
        return answer(path, sum("/events" in before for before, *_ in server.asked[: count - 1]))

    with answering(answers) as server:
        servers.append(server)
        words = [word.format(file=file, port=free_port(), folder=tmp_path) for word in door.split(" ")]
        run([*words, "--api", server.url, "-o", form])
    said = capsys.readouterr()
    assert said.out + said.err
    assert "is a bug" not in said.err, said.err
    assert not CONTROL.search(said.out), said.out
    assert not CONTROL.search(said.err), said.err


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_documents_are_exact_though_their_text_is_hostile(form: Any, capsys: pytest.CaptureFixture[str]) -> None:
    value = {EVIL: [EVIL, "two\nlines\tand é", {"x": "\x85"}]}
    output.document(value, form)
    text = capsys.readouterr().out
    assert not CONTROL.search(text)
    assert (json.loads if form == "json" else yaml.safe_load)(text) == value
    output.item(value, form)
    assert not CONTROL.search(capsys.readouterr().out)


def test_a_reason_cannot_pass_for_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    from muster.cli.watch import Watch

    Watch(None, "table").report({"id": "3f6a", "state": "queued", "reason": "x\nmuster: all is well"})  # type: ignore[arg-type]
    assert capsys.readouterr().err.splitlines() == ["muster: order 3f6a is queued: x muster: all is well"]


def test_logs_on_a_terminal_hold_no_control_characters(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from muster.cli import logging as ours

    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    before, root = structlog.get_config(), logging.getLogger().handlers[:]
    try:
        ours.set_up("info", "broker")
        structlog.get_logger().error("x", reply=EVIL, inner={"a": EVIL}, exc_info=ValueError(EVIL))
    finally:
        structlog.configure(**before)
        structlog.contextvars.clear_contextvars()
        logging.getLogger().handlers[:] = root
    assert "ValueError" in (said := capsys.readouterr().err)
    assert not CONTROL.search(said)


@pytest.mark.parametrize(
    ("printed", "plain"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07a\x1b]8;;http://x\x1b\\b\x9dc\x9cd", "abd"),
        ("\x1bPq#0\x1b\\a\x1b_x\x1b\\b\x1b(Bc\x1b7d\x1bMe", "abcde"),
        ("10 %\r20 %\r\nend\r\n", "10 %\n20 %\nend\n"),
        ("a\x1b[31\nb\x1b]0;\nc\x07\x08\x00d\t\x7f\x84", "a\nb\ncd\t"),
        ("é漢\x1b[m\N{GRINNING FACE}", "é漢\N{GRINNING FACE}"),
        ("\x1bé\x1b\x1b[2Jx\x1b[3\x1b[4my", "éxy"),
    ],
)
@given(data=st.data())
def test_plain_output_is_the_same_however_it_is_cut(printed: str, plain: str, data: st.DataObject) -> None:
    encoded = printed.encode()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(encoded)))))
    stripper = PlainOutput()
    pieces = [encoded[a:b] for a, b in zip([0, *cuts], [*cuts, len(encoded)], strict=True)]
    assert b"".join(map(stripper.strip, pieces)).decode() == plain


@given(pieces=st.lists(st.binary() | st.text("\x1b[]P\\0m\x07\r\n\x9b\x9dé").map(str.encode)))
def test_no_bytes_make_plain_output_hold_a_control_character(pieces: list[bytes]) -> None:
    stripper = PlainOutput()
    assert not CONTROL.search(b"".join(map(stripper.strip, pieces)).decode())


def test_job_output_is_raw_unless_plain_is_asked_for(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    for plain in (False, True):
        printer = Printer("table", {"1": "web01"}, plain=plain)
        for at, data in enumerate((b"\x1b[3", b"1mred\n")):
            printer.piece(Piece(order="1", job="do", claim=1, attempt=1, offset=at, data=data))
        printer.text(b"\x1b[2Jtext\n")
    raw, stripped = b"\x1b[31mred\n\x1b[2Jtext\n", b"red\ntext\n"
    heading = "▶ do\n".encode()
    assert capsysbinary.readouterr().out == heading + raw + heading + stripped


def test_plain_without_follow_is_refused_before_anything_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["run", "x", "--on", "y", "--plain"], ["fire", "x", "--plain", "--wait"]):
        assert run([*words, "--api", f"http://127.0.0.1:{free_port()}"]) == 2
        assert "--follow" in capsys.readouterr().err
