"""`kind: param`: what values a param of this name may have, on every element and profile."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from muster.blueprints.objects.base import Catalog, Manifest, ObjectKind
from muster.blueprints.schemas import check_schema
from muster.mesh.errors import Problem


class Param(Manifest):
    """The declaration of a param."""

    kind: Literal["param"] = "param"
    schema: dict[str, Any] = {}
    """A JSON Schema (draft 2020-12)."""


def check(manifest: Param, _catalog: Catalog) -> Iterable[Problem]:
    """A schema that is none."""
    return check_schema(manifest.schema, "schema")


PARAM = ObjectKind(kind="param", manifest=Param, check=check)
