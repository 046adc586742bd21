"""The first record of an order: what planning makes, and what a direct start may still add to it."""

from __future__ import annotations

from typing import Protocol, TypeVar

from muster.mesh import records

First = TypeVar("First", records.Created, records.Fired)


class StartDirectly(Protocol):
    """Adds a direct start to the first record of an order that can start at once; must not block."""

    def __call__(self, record: First) -> First:
        """Returns the record with the start, or as it is."""
