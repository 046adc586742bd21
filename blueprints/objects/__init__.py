"""The kinds of manifest, one a file, each found by its entry point in the group `muster.objects`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Final

from muster.blueprints.objects.base import ObjectKind

ELEMENT: Final = "element"
"""Elements of every kind, where a kind is asked for."""
KIND: Final = "kind"
"""The kinds themselves, where a kind is asked for."""


@lru_cache(maxsize=1)
def object_kinds() -> Mapping[str, ObjectKind]:
    """Returns every kind of manifest that is installed, by name."""
    found = {point.name: point.load() for point in entry_points(group="muster.objects")}
    return MappingProxyType(found)


@lru_cache(maxsize=1)
def element_kinds() -> tuple[str, ...]:
    """Returns the kinds that an agent acts for, in the order of their names."""
    return tuple(sorted(name for name, kind in object_kinds().items() if kind.is_element))
