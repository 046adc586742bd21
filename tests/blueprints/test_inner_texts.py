"""JSON and base64 inside texts, in conditions and in templates."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.blueprints.expressions import EvaluationError, EventCondition
from muster.blueprints.inner_texts import bytes_of_base64
from muster.blueprints.templates import TemplateError, check_template, render

EVENT = {
    "body": {
        "payload": '{"value": "deploy", "n": [1, 2.5, null]}',  # a form's field, or SNS's Message
        "message": {"data": "eyJhIjoxfQ=="},  # Pub/Sub
        "url": "_-8",
        "deep": "[" * 101 + "]" * 101,
        "half": '"\\ud800"',
        "binary": "/////w==",
        "n": 7,
        "list": [],
    }
}


def rendered(text: str, event: Any = EVENT) -> Any:
    """The template's value."""
    assert not check_template(text, "inputs.v")
    return render(text, {"event": event})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{{ (event.body.payload | from_json).value }}", "deploy"),
        ("{{ (event.body.payload | from_json).n }}", [1, 2.5, None]),
        ("{{ event.body.message.data | b64decode }}", '{"a":1}'),
        ("{{ (event.body.message.data | b64decode | from_json).a }}", 1),
        ("x{{ 'w7w' | b64decode }}", "xü"),
        ("{{ (event.body.none | default('{}') | from_json).a | default(7) }}", 7),
    ],
)
def test_templates_read_text_inside_text(text: str, value: Any) -> None:
    assert rendered(text) == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{{ 'x' | from_json }}", "not valid JSON"),
        ("{{ event.body.deep | from_json }}", "100 levels"),
        ("{{ event.body.half | from_json }}", "not valid JSON"),
        ("{{ event.body.n | from_json }}", "a number"),
        ("{{ event.body.list | b64decode }}", "a list"),
        ("{{ event.body.binary | b64decode }}", "UTF-8"),
        ("{{ 'ü' | b64decode }}", "base64"),
        ("{{ event.body.gone | from_json }}", "event.body.gone"),
        ("{{ (event.body.payload | from_json).gone }}", "gone"),
    ],
)
def test_what_cannot_be_read_is_reported(text: str, why: str) -> None:
    with pytest.raises(TemplateError, match=why):
        rendered(text)


@pytest.mark.parametrize(
    "text",
    [
        'from_json(event.body.payload).value == "deploy"',
        "from_json(event.body.payload).n[1] > 2.0",
        "has(from_json(event.body.payload).value) && !has(from_json(event.body.payload).gone)",
        "from_json(base64.decode(event.body.message.data)).a == 1",
        'string(base64.decode(event.body.message.data)).contains("a")',
        r'base64.decode(event.body.url) == b"\xff\xef"',
    ],
)
def test_conditions_read_text_inside_text(text: str) -> None:
    assert EventCondition(text).holds({"event": EVENT})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('from_json("x") == 1', "not valid JSON"),
        ("from_json(event.body.n) == 1", "from_json"),
        ("from_json(event.body.deep) == 1", "100 levels"),
        ('base64.decode("?") == b""', "not valid base64"),
    ],
)
def test_a_condition_says_what_it_could_not_read(text: str, why: str) -> None:
    with pytest.raises(EvaluationError, match=why):
        EventCondition(text).holds({"event": EVENT})


@pytest.mark.parametrize(
    "text",
    [
        "event.body.numbers.all(i, from_json(event.body.text) != i)",
        "event.body.numbers.all(i, base64.decode(event.body.base64).size() > i)",
    ],
)
def test_a_condition_reads_no_large_text_over_and_over(text: str) -> None:
    with pytest.raises(EvaluationError, match=r"MB|too long"):
        EventCondition(text).holds({"event": LARGE})


def test_a_template_reads_no_large_text_over_and_over() -> None:
    with pytest.raises(TemplateError, match=r"MB|steps"):
        rendered("{% for i in event.body.numbers %}{{ event.body.text | from_json | length }}{% endfor %}", LARGE)
    assert rendered("{{ event.body.text | from_json | length }}", LARGE) == 500_000


LARGE = {"body": {"text": json.dumps("x" * 500_000), "base64": "eHh4" * 125_000, "numbers": list(range(100))}}


@given(st.binary(max_size=200), st.booleans(), st.booleans())
def test_base64_is_read_as_senders_write_it(data: bytes, for_urls: bool, is_padded: bool) -> None:
    text = (base64.urlsafe_b64encode if for_urls else base64.b64encode)(data).decode()
    assert bytes_of_base64(text if is_padded else text.rstrip("=")) == data
