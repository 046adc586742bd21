"""Keywords of JSON Schema that mean something: a validator ignores any other, so a misspelt one would check nothing.

The vocabularies are those of draft 2020-12; `definitions` and `dependencies` are of earlier drafts, which its
meta-schema takes as well.  `x-…` is for people's own tools.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from muster.blueprints.paths import join
from muster.blueprints.suggest import did_you_mean
from muster.mesh.errors import Problem

_ONE: Final = frozenset({
    "additionalProperties", "contains", "contentSchema", "else", "if", "items", "not", "propertyNames", "then",
    "unevaluatedItems", "unevaluatedProperties",
})  # fmt: skip
"""Hold a schema."""

_LIST: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
"""Hold a list of them."""

_BY_NAME: Final = frozenset({
    "$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties",
})  # fmt: skip
"""Hold schemas by name."""

KEYWORDS: Final = _ONE | _LIST | _BY_NAME | {
    "$anchor", "$comment", "$dynamicAnchor", "$dynamicRef", "$id", "$ref", "$schema", "$vocabulary", "const",
    "contentEncoding", "contentMediaType", "default", "dependentRequired", "deprecated", "description", "enum",
    "examples", "exclusiveMaximum", "exclusiveMinimum", "format", "maxContains", "maxItems", "maxLength",
    "maxProperties", "maximum", "minContains", "minItems", "minLength", "minProperties", "minimum", "multipleOf",
    "pattern", "readOnly", "required", "title", "type", "uniqueItems", "writeOnly",
}  # fmt: skip


def unknown_keywords(schema: Any, path: str) -> Iterator[Problem]:
    """Every keyword, also in the schemas inside, that JSON Schema does not have.  It must be valid otherwise."""
    if not isinstance(schema, Mapping):
        return
    for name, value in schema.items():
        if name in _ONE:
            yield from unknown_keywords(value, join(path, name))
        elif name in _LIST:
            for place, inner in enumerate(value):
                yield from unknown_keywords(inner, join(path, name, place))
        elif name in _BY_NAME:
            for key, inner in value.items():
                yield from unknown_keywords(inner, join(path, name, key))
        elif name not in KEYWORDS and not name.startswith("x-"):
            hint = did_you_mean(name, KEYWORDS) or "leave it out, or name it `x-…` if a tool of yours reads it"
            yield Problem(path=join(path, name), message=f"JSON Schema has no keyword {name!r}", hint=hint)
