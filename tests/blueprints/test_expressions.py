"""Filters and conditions: what holds, what does not, and what cannot be evaluated."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.blueprints.event_expressions import EventValue
from muster.blueprints.expressions import Condition, EvaluationError, EventCondition, Filter
from muster.blueprints.references import reads
from muster.mesh.errors import InvalidError

WEB01: dict[str, Any] = {
    "kind": "machine",
    "name": "web01",
    "labels": {"role": "web", "site": "ams"},
    "params": {"ram_gb": 32, "load": 0.5, "nested": {"list": [1, 2]}, "none": None},
    "profiles": ("base",),
    "mode": "work_order",
    "online": True,
    "drained": False,
    "slots": 2,
}

VALUES: dict[str, Any] = {
    "inputs": {"limit": 70, "my-input": "x", "list": ["a"]},
    "tasks": {
        "disk": {"state": "finished", "outputs": {"used": 80, "ratio": 0.8}, "exit_code": 0, "error": ""},
        "my-task": {"state": "failed", "outputs": {"x": "y"}, "exit_code": 1, "error": "no"},
    },
    "element": {"name": "web01", "kind": "machine", "labels": {"role": "web"}, "params": {}, "mode": "work_order"},
    "order": {"id": "abc", "blueprint": "b", "attempt": 1, "labels": {}, "pool": "", "element": "web01"},
}


@pytest.mark.parametrize(
    "text",
    [
        'element.kind == "machine" && element.labels.role == "web" && element.params.ram_gb >= 16',
        'element.labels["site"] in ["ams", "fra"]',
        '"base" in element.profiles',
        "element.online && !element.drained",
        'element.name.startsWith("web") && element.name.matches("^web[0-9]+$")',
        "element.params.load < 1 && element.params.ram_gb > 1.5",
        "element.params.nested.list[1] == 2",
        "element.params.none == null",
        "!has(element.labels.nope)",
        'element.labels.?nope.orValue("x") == "x"',
        'element.labels.nope == "x" || element.slots == 2',
        "true",
    ],
)
def test_a_filter_matches(text: str) -> None:
    assert Filter(text).matches(WEB01)


@pytest.mark.parametrize(
    "text",
    [
        'element.labels.nope == "web"',
        'element.labels.nope != "web"',
        "element.params.nope.deeper > 1",
        'element.params.ram_gb > "a"',
        "element.params.ram_gb",
        "1 / (element.slots - 2) == 1",
        'element.name.matches("(")',
        'timestamp(element.name) > timestamp("2020-01-01T00:00:00Z")',
    ],
)
def test_a_filter_that_cannot_be_worked_out_does_not_match(text: str) -> None:
    assert not Filter(text).matches(WEB01)


def test_a_filter_that_takes_too_many_steps_does_not_match() -> None:
    text = "1 == 1"
    for name in "abcde":
        text = f"[1,2,3,4,5,6,7,8,9,10].all({name}, {text})"
    assert not Filter(text).matches(WEB01)


@pytest.mark.parametrize("value", [2**70, "\ud800", float("nan"), object(), {1: {2, 3}}, []])
def test_data_that_cel_has_no_form_for_does_not_match(value: object) -> None:
    assert not Filter("element.params.odd == 1").matches({**WEB01, "params": {"odd": value}})


@pytest.mark.parametrize(
    "call",
    [".replace('a', 'aa')", ".map(x, x + x)", ".optMap(x, x + x)", ".optFlatMap(x, x)", ".join(',')", ".format([1])",
     " // first\n . // then\n replace // last\n ('a', 'aa')", r" == r'\' || 'a'.replace('a', 'aa') == '\'"],
)  # fmt: skip
def test_a_filter_makes_nothing_that_could_grow(call: str) -> None:
    with pytest.raises(InvalidError) as caught:
        Filter(f"'a'{call} == 'b'")
    assert "is not available here" in caught.value.problems[0].message


def test_a_field_or_text_may_be_named_like_what_a_filter_has_not() -> None:
    view = {**WEB01, "labels": {"map": "join('x')"}}
    assert Filter("element.labels.map == \"join('x')\" || element.labels.replace == ''").matches(view)


def test_a_filter_over_nothing_does_not_match() -> None:
    assert not Filter('element.kind == "machine"').matches({})


@pytest.mark.parametrize(
    "text",
    ["element.kidn == 'x'", "element",
     "elment.kind == 'x'", "element.slots", "element.slots == 1.0", "", "  ", "(" * 500,
     "element.labels.role.x == 1", "inputs.a == 1", "x" * 10_001, "element.kind == ", "\0", "element.kind = 'x'"],
)  # fmt: skip
def test_a_filter_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(InvalidError) as caught:
        Filter(text)
    assert caught.value.problems


@given(st.text(max_size=60))
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    try:
        chosen = Filter(text)
    except InvalidError:
        return
    assert chosen.matches(WEB01) in {True, False}


def test_every_problem_is_reported_with_line_and_column() -> None:
    with pytest.raises(InvalidError) as caught:
        Filter("element.kidn == 'x' &&\n  element.slotz > 1 && element.slots > 'a'")
    assert [(problem.line, problem.column, problem.message) for problem in caught.value.problems] == [
        (1, 1, "there is no `element.kidn`"),
        (2, 3, "there is no `element.slotz`"),
        (2, 38, "`>` cannot be used on (int, string)"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "tasks.disk.outputs.used > 70",
        "tasks.disk.outputs.used > inputs.limit",
        "tasks.disk.outputs.ratio >= 0.8 && tasks.disk.exit_code == 0",
        'tasks["my-task"].outputs.x == "y"',
        'inputs["my-input"] == "x"',
        "has(tasks.disk.outputs.used) && !has(tasks.disk.outputs.nope)",
        'tasks.exists(name, tasks[name].state == "failed")',
        'element.labels.role == "web" && order.attempt == 1',
        '"a" in inputs.list',
    ],
)
def test_a_condition_holds(text: str) -> None:
    assert Condition(text).holds(VALUES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tasks.disk.outputs.nope > 1", "there is no `tasks.disk.outputs.nope`"),
        ("tasks.nope.outputs.x > 1", "there is no `tasks.nope`"),
        ("inputs.limit > 'a'", "`>` cannot be used on"),
        ("inputs.limit", "must be true or false, but gives a number"),
        ("inputs.limit / 0 == 1", "divide by zero"),
    ],
)
def test_a_condition_that_cannot_be_worked_out_says_why(text: str, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        Condition(text).holds(VALUES)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ('event.body.ref == "x"', {"body": {"ref": None}}),
        ('size(event.body) > 1 && event.body.ref == ""', {"body": None}),
        ('event["body"].a.b.startsWith("x") || event.id == ""', {"body": {"a": {"b": None}}, "id": None}),
        ('event.body.?ref.orValue("") == ""', {"body": {"ref": None}}),
        ("event.commits[0].id == 1 && has(event.a.b)", {"commits": None, "a": {"b": None}}),
        ("event.commits.exists(c, c.id == 1)", {"commits": None}),
        ("event.size() > 1", None),
        (r'event["a\"b"] == 1', None),
        ("event == {}", None),
    ],
)
def test_it_is_known_what_a_condition_reads_of_an_event(text: str, fields: object) -> None:
    assert reads(text, "event") == fields


def test_a_condition_is_only_given_what_it_reads() -> None:
    event = {"body": {"ref": "main", "huge": 2**70, "bad": "\ud800"}, "size": 1}
    assert EventCondition('event.body.ref == "main" && !has(event.body.tag)').holds({"event": event})
    assert EventCondition("event.size == 1").holds({"event": event})
    for text in ("event.body.huge == 1", 'event.body.bad == ""', "event.body.size() > 1"):
        with pytest.raises(EvaluationError, match="cannot be evaluated"):
            EventCondition(text).holds({"event": event})


@pytest.mark.parametrize(
    ("text", "body", "message"),
    [
        ('event.body.ref == "x"', "hello", "`event.body` is text, which has no fields"),
        ("has(event.body.ref)", None, "`event.body` is nothing, which has no fields"),
        ("event.body.a.b.c == 1", {"a": {"b": [5]}}, "`event.body.a.b` is a list, which has no fields"),
        ('event.body["a"]["b"] == 1', {"a": 5}, "`event.body.a` is a number, which has no fields"),
        ("from_json(event.body.text).x == 1", {"text": "[1]"}, "it reads a field of something that has none"),
        ("event.body.exists(c, c.x == 1)", [1], "it reads a field of something that has none"),
        ("event.body.exists(c, c == 1)", 5, "it goes through something that is neither a list nor a map"),
        ("1 in event.body", 5, "`in` searches something that is neither a list nor a map"),
        ("event.body[3] == 1", [1], "a list of 1 has no item 3"),
        ("event.body[0] == 1", {"a": 1}, "a map has no key 0"),
        ('event.body.a.startsWith("x")', {"a": 5}, "`startsWith` cannot be used on (int64)"),
        ("event.body", "hello", "must be true or false, but gives text"),
    ],
)
def test_an_event_of_another_shape_is_described(text: str, body: object, message: str) -> None:
    with pytest.raises(EvaluationError, match=re.escape(message)):
        EventCondition(text).holds({"event": {"body": body}})


def test_a_field_of_a_text_is_described_in_each_and_key_too() -> None:
    for text in ("event.body.ref", "size(event.body.ref) > 1"):
        with pytest.raises(EvaluationError, match=re.escape("`event.body` is text, which has no fields")):
            EventValue(text).of({"event": {"body": "hello"}})


def test_what_is_missing_in_an_event_is_reported_with_its_path() -> None:
    with pytest.raises(EvaluationError, match=r"there is no `event.body.project.name`"):
        EventCondition('event.body.project.name == "x"').holds({"event": {"body": {"project": {}}}})
