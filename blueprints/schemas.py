"""JSON Schema: what inputs and params may be.  `jsonschema_rs` is imported when first needed.

Nothing is fetched for a `$ref`, and patterns run without backtracking, so neither a schema nor a
value can hang a process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import msgspec

from muster.blueprints.paths import join
from muster.blueprints.schema_keywords import unknown_keywords
from muster.mesh.canonical import canonical
from muster.mesh.errors import Problem

_MAX_ERRORS = 100


def schema_problems(schema: Mapping[str, Any], value: Any, path: str) -> Iterator[Problem]:
    """Everything that is wrong with `value` at `path`.  A schema that is none finds nothing."""
    try:
        validator = _validator(canonical(schema))
        found = validator.iter_errors(value)
    except (ValueError, TypeError):
        return
    for _, error in zip(range(_MAX_ERRORS), found, strict=False):
        yield Problem(path=join(path, *error.instance_path), message=error.message)


def is_valid(schema: Mapping[str, Any], value: Any) -> bool:
    """Whether the schema takes the value; a schema that is none takes everything."""
    try:
        return bool(_validator(canonical(schema)).is_valid(value))
    except (ValueError, TypeError):
        return True


def check_schema(schema: Mapping[str, Any], path: str) -> Iterator[Problem]:
    """What is wrong with the schema itself at `path`."""
    import jsonschema_rs

    found = list(jsonschema_rs.Draft202012Validator(_meta_schema()).iter_errors(dict(schema)))
    for error in found[:_MAX_ERRORS]:
        yield Problem(path=join(path, *error.instance_path), message=f"not JSON Schema: {error.message}")
    if found:
        return
    try:
        _validator(canonical(schema))
    except ValueError as error:
        place = getattr(error, "instance_path", [])
        message = str(getattr(error, "message", error))
        yield Problem(path=join(path, *place), message=f"not JSON Schema: {message}")
    yield from unknown_keywords(schema, path)


@lru_cache(maxsize=1)
def _meta_schema() -> dict[str, Any]:
    return {"$schema": _DRAFT, "$ref": _DRAFT}


_DRAFT = "https://json-schema.org/draft/2020-12/schema"


def _no_remote(uri: str) -> Any:
    raise ValueError(f"{uri} is not fetched; put the schema itself here")


@lru_cache(maxsize=512)
def _validator(encoded: bytes) -> Any:
    import jsonschema_rs

    return jsonschema_rs.validator_for(
        msgspec.json.decode(encoded), retriever=_no_remote, pattern_options=jsonschema_rs.RegexOptions()
    )
