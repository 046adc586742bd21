"""Inputs: where each comes from, and whether it fits."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from muster.blueprints.definition import Blueprint
from muster.blueprints.resolve import resolve, validate

BLUEPRINT = Blueprint(
    name="b",
    inputs={
        "disk": {"type": "integer", "default": 90, "maximum": 100},
        "host": {"type": "string"},
        "deep": {
            "type": "object",
            "properties": {"list": {"type": "array", "items": {"type": "integer"}}},
            "default": {},
        },
    },
)


def reported(**inputs: Any) -> list[str]:
    return [str(problem) for problem in validate(BLUEPRINT, inputs)]


def test_the_strongest_source_wins() -> None:
    params, sources = {"disk": 80, "host": "p", "other": 1}, {"disk": "profile:base", "host": "element"}
    resolved = resolve(BLUEPRINT, {"host": "given"}, params, sources)
    assert resolved.inputs == {"disk": 80, "deep": {}, "host": "given"}
    assert resolved.sources == {"disk": "profile:base", "deep": "blueprint", "host": "order"}
    assert resolve(BLUEPRINT, {"host": "x"}, {}, {}, given_source="trigger:t").sources["host"] == "trigger:t"


def test_a_param_that_no_input_is_named_for_stays_out() -> None:
    assert "other" not in resolve(BLUEPRINT, {}, {"other": 1}, {}).inputs


def test_every_problem_is_reported_with_its_path() -> None:
    assert reported(disk=101, deep={"list": [1, "x"]}, hots="x") == [
        "inputs.hots: blueprint 'b' has no input 'hots' (did you mean 'host'?)",
        "inputs.disk: 101 is greater than the maximum of 100",
        "inputs.host: this input is required",
        'inputs.deep.list[1]: "x" is not of type "integer"',
    ]
    assert reported(host="x") == []


def test_a_pattern_cannot_hang_and_a_reference_is_not_fetched() -> None:
    slow = Blueprint(name="s", inputs={"a": {"type": "string", "pattern": "^(a+)+$"}})
    assert validate(slow, {"a": "a" * 50_000 + "!"})
    far = Blueprint(name="f", inputs={"a": {"$ref": "http://127.0.0.1:1/schema"}})
    assert validate(far, {"a": 1}) == []


@given(st.dictionaries(st.sampled_from(["disk", "host", "deep", "x"]), st.integers() | st.text()), st.data())
def test_every_resolved_input_has_a_source(given_: dict[str, Any], data: st.DataObject) -> None:
    params = data.draw(st.dictionaries(st.sampled_from(["disk", "host", "y"]), st.integers()))
    resolved = resolve(BLUEPRINT, given_, params, {})
    assert resolved.inputs.keys() == resolved.sources.keys()
    assert {**resolved.inputs, **given_} == resolved.inputs
    validate(BLUEPRINT, resolved.inputs)
