"""What becomes of text: it stays text unless it is canonical JSON, and a schema decides where there is one."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.blueprints.fit import convert, read, value_of, with_whole_numbers
from muster.mesh.canonical import canonical

DEEP = "[" * 3000 + "]" * 3000


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-12", -12),
        ("0.1", 0.1),
        ("0.000001", 0.000001),
        ("true", True),
        ("null", None),
        ("text", "text"),
        ("", ""),
        ('{"b": [1, 2]}', {"b": [1, 2]}),
        ('"1"', "1"),
    ],
)
def test_canonical_json_is_a_value(text: str, value: object) -> None:
    assert canonical(value_of(text)) == canonical(value)


@pytest.mark.parametrize(
    "text",
    ["1.10", "3.0", "1e5", "1E5", "007", "-0", "+1", " 1", "1 ", "NaN", "1e999", "9" * 30, "0x10", "1_000", ".5", DEEP],
)
def test_what_json_would_write_in_another_way_stays_text(text: str) -> None:
    assert value_of(text) == text


@given(st.text() | st.floats().map(str) | st.integers().map(str) | st.decimals().map(str))
def test_a_number_is_written_as_it_was_read(text: str) -> None:
    value = value_of(text)
    if isinstance(value, int) and not isinstance(value, bool):
        assert str(value) == text
    elif isinstance(value, float):
        assert float(text) == value
        assert not text.endswith("0")


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        ({"type": "string"}, "1.10", "1.10"),
        ({"type": "string"}, "5", "5"),
        ({"type": "string"}, "true", "true"),
        ({"type": "string"}, "[1, 2]", "[1, 2]"),
        ({"type": "string"}, '"x"', "x"),
        ({"type": "number"}, "1.10", 1.1),
        ({"type": "number"}, "1e3", 1000.0),
        ({"type": "integer"}, "3", 3),
        ({"type": ["integer", "string"]}, "3", 3),
        ({"type": ["number", "string"]}, "1.10", "1.10"),
        ({"enum": ["1", "2"]}, "1", "1"),
        ({"type": "array"}, "[1.10]", [1.1]),
        ({"type": "boolean"}, "yes", "yes"),
        ({"type": "integer"}, "many", "many"),
        ({}, "3.0", "3.0"),
        ({}, "3", 3),
    ],
)
def test_the_schema_decides_what_typed_text_is(schema: dict[str, Any], text: str, value: object) -> None:
    assert canonical(read(schema, text)) == canonical(value)


@pytest.mark.parametrize(
    ("schema", "value", "wanted"),
    [
        ({"type": "string"}, 5, "5"),
        ({"type": "string"}, True, "true"),
        ({"type": "integer"}, "12", 12),
        ({"type": "number"}, "1.10", 1.1),
        ({}, "12", "12"),
        ({}, 12, 12),
        ({"type": "string"}, None, None),
        ({"type": "boolean"}, "true", True),
        ({"type": "object"}, '{"a": 1}', {"a": 1}),
    ],
)
def test_a_templates_value_takes_the_form_that_the_schema_wants(
    schema: dict[str, Any], value: object, wanted: object
) -> None:
    assert canonical(convert(schema, value)) == canonical(wanted)


def test_whole_numbers_are_integers_wherever_the_schema_says_so() -> None:
    schema = msgspec.json.decode(
        '{"properties": {"a": {"type": "integer"}, "b": {"items": {"type": "integer"}}, "c": {"type": "number"}},'
        ' "additionalProperties": {"type": "integer"}}'
    )
    value = {"a": 3.0, "b": [1.0, 2], "c": 3.0, "d": 4.0}
    assert canonical(with_whole_numbers(schema, value)) == b'{"a":3,"b":[1,2],"c":3.0,"d":4}'
    assert with_whole_numbers({"type": "integer"}, 1e300) == 1e300


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": ["integer", "null"]}, b"3"),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, b"3"),
        ({"oneOf": [{"type": "null"}, {"type": "integer"}]}, b"3"),
        ({"allOf": [{"type": "integer"}, {"minimum": 1}]}, b"3"),
        ({"type": ["integer", "number"]}, b"3.0"),
        ({"anyOf": [{"type": "integer"}, {"type": "number"}]}, b"3.0"),
        ({"type": "number"}, b"3.0"),
        ({"minimum": 1}, b"3.0"),
    ],
)
def test_composed_schemas_say_integer_too(schema: dict[str, Any], expected: bytes) -> None:
    assert canonical(with_whole_numbers(schema, 3.0)) == expected
