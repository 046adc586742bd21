"""What is allowed on the log: anything else is noise, from any writer."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.mesh import names, records
from muster.mesh.caller import BROKER, Caller, CallerKind
from muster.mesh.model import OrderState
from muster.mesh.nesting import DEEPEST, WRAPPED

CLAIM = records.Claimed(order="o1", attempt=1, element="web01", agent="a")
CANCEL = records.CancelRequested(order="o1", by=Caller(name="me"))


def test_a_record_is_read_as_it_was_written() -> None:
    record, place = records.decode(records.subject(CLAIM, "web01"), records.encode(CLAIM))
    assert record == CLAIM
    assert place == records.Place("order", "o1", "web01")


@pytest.mark.parametrize(
    ("subject", "record", "why"),
    [
        (names.log("order", "o1", "db01"), CLAIM, "must not claim for 'web01'"),
        (names.log("order", "o1"), CLAIM, "'broker' must not write a Claimed"),
        (names.log("order", "o1", "web01"), CANCEL, "'web01' must not write a CancelRequested"),
        (names.log("order", "o2", "web01"), CLAIM, "about 'o1' is not allowed on"),
        (names.log("element", "o1", "web01"), CLAIM, "is not allowed on"),
        ("muster.log.order.o1", CLAIM, "not a log subject"),
        ("muster.log.order.o1.web01.more", CLAIM, "not a log subject"),
    ],
)
def test_a_record_in_the_wrong_place_is_refused(subject: str, record: records.Record, why: str) -> None:
    answer, _ = records.decode(subject, records.encode(record))
    assert isinstance(answer, str)
    assert why in answer


def test_an_agent_cannot_say_that_somebody_else_has_written_its_record() -> None:
    on = records.subject(CLAIM, "web01")
    forged = msgspec.structs.replace(CLAIM, by=Caller(name="anna"))
    answer, _ = records.decode(on, records.encode(forged))
    assert isinstance(answer, str)
    assert "must not name another author" in answer
    assert records.caller_of(CLAIM, "web01") == Caller(kind=CallerKind.AGENT, name="web01")


def test_a_record_of_the_broker_says_who_caused_it() -> None:
    record, _ = records.decode(records.subject(CANCEL), records.encode(CANCEL))
    assert isinstance(record, records.CancelRequested)
    assert records.caller_of(record, names.BROKER) == record.by == CANCEL.by
    due, _ = records.decode(names.log("order", "o1"), b'{"type":"due","order":"o1"}')
    assert isinstance(due, records.Due)
    assert records.caller_of(due, names.BROKER) == BROKER


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b'{"stream":"MUSTER_WORK","seq":3}',
        b'{"type":"done","order":"o1"}',
        b'{"type":"cancel_requested","order":"o1","by":{"name":"me"},"more":1}',
        b'{"type":"nonsense"}',
        b"[]",
        b"\xff\xfe",
        b'{"type":"cancel_requested","order":"\xff","by":{"name":"me"}}',
        b'{"type":"done","order":"o1","attempt":1,"state":"finished","outputs":{"x":%b%b}}'
        % (b"[" * 5000, b"]" * 5000),
    ],
    ids=["nothing", "a PubAck", "a part", "more", "no type of ours", "a list", "no text", "no name", "too deep"],
)
def test_what_is_no_record_is_distinguished(data: bytes) -> None:
    answer, place = records.decode(names.log("order", "o1", "web01"), data)
    assert isinstance(answer, str)
    assert place is not None


@pytest.mark.parametrize(("levels", "is_taken"), [(DEEPEST, True), (WRAPPED, False)])
def test_a_record_is_nested_no_deeper_than_others_can_write_it_again(levels: int, is_taken: bool) -> None:
    outputs: dict[str, Any] = {}
    for _ in range(levels - 1):
        outputs = {"x": outputs}
    done = records.Done(order="o1", attempt=1, state=OrderState.FINISHED, outputs=outputs)
    record, _ = records.decode(names.log("order", "o1", "web01"), records.encode(done))
    assert (record == done) is is_taken


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    answer, _ = records.decode(names.log("order", "o1", "web01"), data)
    assert isinstance(answer, str)


@given(st.text(max_size=80))
def test_no_subject_breaks_the_reader(subject: str) -> None:
    answer, _ = records.decode(subject, records.encode(CANCEL))
    assert isinstance(answer, str) or subject == names.log("order", "o1")


NOT_NAMES = ["", "é", "a b", "a\r\nPUB x  0\r\n\r\n", "web01\n", "a*", ">", "a/b", "../a", "A", "\0", "a" * 64]


@pytest.mark.parametrize("bad", NOT_NAMES)
@pytest.mark.parametrize(
    "record",
    [
        {
            "type": "created",
            "order": "o1",
            "blueprint": "hello",
            "version": 1,
            "digest": "d",
            "by": {"name": "x"},
            "element": "?",
        },
        {
            "type": "created",
            "order": "o1",
            "blueprint": "hello",
            "version": 1,
            "digest": "d",
            "by": {"name": "x"},
            "pool": "?",
        },
        {
            "type": "created",
            "order": "o1",
            "blueprint": "hello",
            "version": 1,
            "digest": "d",
            "by": {"name": "x"},
            "parent": "?",
        },
        {"type": "suspended", "order": "o1", "attempt": 1, "jobs": [{"name": "?", "state": "running"}]},
        {"type": "suspended", "order": "o1", "attempt": 1, "jobs": [], "orders": ["?"]},
        {"type": "joined", "element": "web01", "agent": "?"},
        {"type": "announced", "id": "i1", "name": "?"},
        {
            "type": "fired",
            "id": "f1",
            "trigger": "t",
            "version": 1,
            "by": {"name": "x"},
            "orders": [{"id": "o1", "pool": "?"}],
        },
        {"type": "fired", "id": "f1", "trigger": "t", "version": 1, "by": {"name": "x"}, "orders": [{"id": "?"}]},
    ],
    ids=lambda record: record["type"],
)
def test_what_goes_into_a_subject_is_a_name(record: dict[str, Any], bad: str) -> None:
    """A line break in one would be a command to the NATS server in the broker's name."""
    data = msgspec.json.encode(record).replace(b'"?"', msgspec.json.encode(bad))
    kind = {"joined": "element", "announced": "inbox"}.get(record["type"], "order")
    ident = record.get("order") or record.get("element") or record.get("id") or ""
    subject = names.log(kind, ident, "e1" if record["type"] == "suspended" else names.BROKER)
    answer, _ = records.decode(subject, data)
    assert isinstance(answer, str)
    assert "regex" in answer or "is not a name" in answer


@pytest.mark.parametrize("bad", [bad for bad in NOT_NAMES if "." not in bad and bad])
def test_a_record_about_what_is_no_name_is_refused(bad: str) -> None:
    for record, actor in ((CANCEL, names.BROKER), (CLAIM, "web01")):
        data = msgspec.json.encode({**msgspec.json.decode(records.encode(record)), "order": bad})
        answer, _ = records.decode(names.log("order", bad, actor), data)
        assert isinstance(answer, str)


def test_ids_are_names_that_fit_in_a_subject() -> None:
    ids = {names.new_id() for _ in range(10_000)}
    assert len(ids) == 10_000
    assert all(len(ident) == 16 and ident.isalnum() and names.is_name(ident) for ident in ids)
