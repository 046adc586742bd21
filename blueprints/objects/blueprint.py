"""`kind: blueprint`: a defined action; the struct is in `blueprints/definition.py`."""

from __future__ import annotations

from collections.abc import Iterator

from muster.blueprints.blueprint_checks import check_blueprint
from muster.blueprints.child_orders import child_blueprints
from muster.blueprints.definition import Blueprint
from muster.blueprints.objects.base import ObjectKind


def uses(manifest: Blueprint) -> Iterator[str]:
    """Yields the blueprints of its child orders."""
    yield from (f"blueprint/{name}" for name in child_blueprints(manifest))


BLUEPRINT = ObjectKind(kind="blueprint", manifest=Blueprint, check=check_blueprint, uses=uses)
