"""`kind: blueprint`: a defined action; the struct is in `blueprints/definition.py`."""

from __future__ import annotations

from muster.blueprints.blueprint_checks import check_blueprint
from muster.blueprints.definition import Blueprint
from muster.blueprints.objects.base import ObjectKind

BLUEPRINT = ObjectKind(kind="blueprint", manifest=Blueprint, check=check_blueprint)
