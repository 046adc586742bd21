"""The first record of an order: what planning makes, and what a direct start may still add to it."""

from __future__ import annotations

from typing import Protocol, TypeVar

from muster.mesh import records

First = TypeVar("First", records.Created, records.Fired)


class Begun(Protocol):
    """Names the agent in the first record of an order that can start at once; must not block."""

    def __call__(self, record: First) -> First:
        """The record, with the agent or as it is."""
