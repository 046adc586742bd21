"""Where each input comes from, and whether it fits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from muster.blueprints.definition import Blueprint
from muster.blueprints.fit import convert, read, with_whole_numbers
from muster.blueprints.schemas import schema_problems
from muster.blueprints.suggest import did_you_mean
from muster.mesh.errors import Problem


class Resolved(msgspec.Struct, frozen=True, kw_only=True):
    """Inputs, and the source of each."""

    inputs: dict[str, Any]
    sources: dict[str, str]
    """`order`, `element`, `profile:NAME`, `blueprint` …"""


def given(
    blueprint: Blueprint, inputs: Mapping[str, Any], texts: Mapping[str, str], *, from_templates: bool
) -> dict[str, Any]:
    """The inputs that a request gives, each in the form that its schema takes.

    Args:
        blueprint: whose inputs they are.
        inputs: JSON values.
        texts: what a person typed; stronger than `inputs`.
        from_templates: whether templates made `inputs`, so that they may be text where a number is wanted, or a number
            where text is.
    """
    schemas = blueprint.inputs
    found = dict(inputs)
    if from_templates:
        found = {name: convert(schemas.get(name, {}), value) for name, value in found.items()}
    return found | {name: read(schemas.get(name, {}), text) for name, text in texts.items()}


def resolve(
    blueprint: Blueprint,
    given: Mapping[str, Any],
    params: Mapping[str, Any],
    param_sources: Mapping[str, str],
    given_source: str = "order",
) -> Resolved:
    """Each input from the strongest source that has it: given → params → the blueprint's default.

    What was given stays, even if the blueprint does not declare it: `validate` reports it.  Params count
    only where the blueprint declares an input of that name.
    """
    inputs: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name, schema in blueprint.inputs.items():
        if name in given:
            continue
        if name in params:
            inputs[name], sources[name] = params[name], param_sources.get(name, "element")
        elif "default" in schema:
            inputs[name], sources[name] = schema["default"], "blueprint"
    for name, value in given.items():
        inputs[name], sources[name] = value, given_source
    for name, schema in blueprint.inputs.items():
        if name in inputs:
            inputs[name] = with_whole_numbers(schema, inputs[name])
    return Resolved(inputs=inputs, sources=sources)


def validate(blueprint: Blueprint, inputs: Mapping[str, Any]) -> list[Problem]:
    """Everything that is wrong with resolved inputs, each with its path; raises nothing."""
    problems: list[Problem] = []
    for name in inputs:
        if name not in blueprint.inputs:
            hint = did_you_mean(name, blueprint.inputs) or "the blueprint declares no inputs"
            message = f"blueprint {blueprint.name!r} has no input {name!r}"
            problems.append(Problem(path=f"inputs.{name}", message=message, hint=hint))
    for name, schema in blueprint.inputs.items():
        if name in inputs:
            problems += schema_problems(schema, inputs[name], f"inputs.{name}")
        elif "default" not in schema:
            title = f" ({schema['title']})" if isinstance(schema.get("title"), str) else ""
            problems.append(Problem(path=f"inputs.{name}", message=f"this input is required{title}"))
    return problems
