"""YAML is read as JSON with another spelling: no surprises, no bombs, a place for everything."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from muster.blueprints.paths import join, split
from muster.blueprints.yaml_lines import mark_of, parse

ONLY_SINCE_1_2 = re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?|0o[0-7]+")
"""Numbers of YAML 1.2 (core schema, 10.3.2), some of which PyYAML writes as plain text: for 1.1 they are none."""

TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=0xD7FF, exclude_characters="\x7f\x85\u2028\u2029"))

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT.filter(lambda text: not ONLY_SINCE_1_2.fullmatch(text)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc.-_ 01", max_size=6), inner, max_size=4),
    max_leaves=12,
)


def value(text: str) -> Any:
    (document,) = parse(text)
    assert document.problems == ()
    return document.value


def problems(text: str) -> list[str]:
    return [f"{problem.line}:{problem.column} {problem}" for found in parse(text) for problem in found.problems]


@pytest.mark.parametrize(
    "text",
    ["yes", "no", "on", "off", "y", "010", "0777", "1:30", "2024-01-01", "1_000", ".inf", ".nan", "=", "<<", "+"],
)
def test_what_yaml_1_1_would_twist_stays_text(text: str) -> None:
    assert value(f"a: {text}") == {"a": text}
    assert value(f"{text}: a") == {text: "a"}


@pytest.mark.parametrize(
    ("text", "meant"),
    [("true", True), ("False", False), ("~", None), ("", None), ("12", 12), ("-3", -3), ("0x1f", 31), ("0o17", 15),
     ("1.5", 1.5), ("1e3", 1000.0), ("'1'", "1"), ('"true"', "true"), ("!!str 5", "5"), ("!!int 5", 5)],
)  # fmt: skip
def test_plain_values_mean_what_they_mean_in_json(text: str, meant: object) -> None:
    found = value(f"a: {text}")["a"]
    assert found == meant
    assert type(found) is type(meant)


@given(st.dictionaries(st.text("abc", min_size=1), JSON, min_size=1))
def test_json_is_yaml(document: dict[str, Any]) -> None:
    for indent in (None, 2, "\t"):
        for ascii_only in (True, False):
            assert value(json.dumps(document, indent=indent, ensure_ascii=ascii_only)) == document


@given(st.dictionaries(st.text("abc", min_size=1), JSON, min_size=1))
def test_what_pyyaml_writes_is_read_the_same(document: dict[str, Any]) -> None:
    assert value(yaml.safe_dump(document, allow_unicode=True)) == document


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    for document in parse(text):
        assert document.value is not None or document.problems


def test_every_value_has_its_place() -> None:
    (document,) = parse("a:\n  b: [x, {c: 1}]\n  d: |\n    text\n")
    marks = document.marks
    assert mark_of(marks, ("a", "b", 1, "c")) == (2, 14, "")
    assert mark_of(marks, ("a", "d")) == (3, 6, "|")
    assert mark_of(marks, ("a", "b", 7)) == mark_of(marks, ("a", "b"))


def test_a_field_may_stand_only_once() -> None:
    assert problems("a: 1\nb: 2\na: 3\n") == ["3:1 a: is here twice; a later one would hide the earlier"]
    assert problems('{"a": {"b": 1, "b": 2}}') == ["1:16 a.b: is here twice; a later one would hide the earlier"]


def test_an_alias_stands_for_its_anchor() -> None:
    assert value("a: &x {b: 1}\nc: *x\nd: *x\n") == {"a": {"b": 1}, "c": {"b": 1}, "d": {"b": 1}}


def test_an_alias_bomb_ends_at_a_limit() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert "more than 1,000,000 values" in problems("\n".join(lines))[0]


def test_an_alias_of_itself_is_reported() -> None:
    assert "alias *a has no anchor before it" in problems("a: &a [*a]")[0]


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 5_000, "- " * 100_000, '{"a":' * 50_000])
def test_deep_nesting_ends_at_a_limit(text: str) -> None:
    assert "more than 100 levels deep" in problems(text)[0]


def test_an_alias_counts_as_deep_as_what_it_stands_for() -> None:
    rows = [f"p{row}: &a{row} {'[' * 90}{f'*a{row - 1}' if row else 1}{']' * 90}" for row in range(60)]
    assert "2:99 more than 100 levels deep" in problems("\n".join(rows))[0].replace("not YAML: ", "")
    assert value("a: &x [[1]]\nb: &y {c: *x}\nd: [*y, *x]\n")["d"] == [{"c": [[1]]}, [[1]]]


@pytest.mark.parametrize(
    ("inner", "reported"),
    [("[" * 900 + "]" * 900, "more than 100 levels deep"), ("9" * 30, "does not fit in 64 bits"),
     ("9" * 500, "does not fit in 64 bits"), ("[" * 101 + "]" * 101, "more than 100 levels deep")],
)  # fmt: skip
def test_json_that_yaml_cannot_read_is_held_to_the_same_limits(inner: str, reported: str) -> None:
    assert reported in problems(f'{{"s": "\\ud83d\\ude00", "x": {inner}}}')[0]
    assert reported in problems(f'{{"x": {inner}}}')[0]
    assert value('{"s": "\\ud83d\\ude00", "x": -1}') == {"s": "\U0001f600", "x": -1}


def test_json_that_yaml_cannot_read_has_a_limit_of_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("muster.blueprints.yaml_lines.MAX_NODES", 100)
    assert "values, aliases expanded" in problems(f'["\\ud83d\\ude00"{", 1" * 100}]')[0]


@pytest.mark.parametrize("tag", ["!!python/object:os.system", "!local", "!!binary", "!!timestamp", "!!set"])
def test_only_the_tags_of_json_are_taken(tag: str) -> None:
    assert "means nothing here" in problems(f"a: {tag} x")[0]


def test_a_syntax_error_has_its_place_and_keeps_what_was_reported_before() -> None:
    found = problems("a: 1\na: 2\n---\nb: [1,\nc")
    assert "3" not in found[0].partition(" ")[0]
    assert any("not YAML" in each for each in found)


@pytest.mark.parametrize("number", ["99999999999999999999", "-9223372036854775809", "1e999", "9" * 5000])
def test_a_number_that_nobody_could_hold_is_reported_or_stays_text(number: str) -> None:
    (document,) = parse(f"a: {number}")
    assert document.problems or document.value == {"a": number}


PATHS = st.lists(st.text(max_size=6) | st.integers(0, 99), max_size=5).map(tuple)


@given(PATHS)
def test_a_path_can_be_read_back(path: tuple[str | int, ...]) -> None:
    assert split(join("", *path)) == path
