"""What the kinds of manifests say of them, written down before it is decided upon."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from muster.blueprints.manifest import decode
from muster.blueprints.objects import object_kinds
from muster.mesh.errors import InvalidError
from muster.mesh.records import Facts


def facts_of(manifests: Iterable[Mapping[str, Any]]) -> dict[str, Facts]:
    """Returns the facts of manifests by `KIND/NAME`; those without any are left out."""
    found = {f"{raw.get('kind')}/{raw.get('name')}": _facts(raw) for raw in manifests}
    return {key: facts for key, facts in found.items() if facts != Facts()}


def _facts(raw: Mapping[str, Any]) -> Facts:
    kind = object_kinds().get(str(raw.get("kind")))
    if kind is None:
        return Facts()
    try:
        uses = tuple(sorted(set(kind.uses(decode(raw)))))
    except InvalidError:  # it was checked before, by this very broker
        uses = ()
    return Facts(is_element=kind.is_element, uses=uses)
