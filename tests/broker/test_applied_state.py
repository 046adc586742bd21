"""What the state machine decides about manifests that are applied together."""

from __future__ import annotations

from typing import Any

import pytest

from muster.broker.state.changes import Changes
from muster.mesh import records
from tests.broker.test_firing_state import Book


def apply(book: Book, *manifests: dict[str, Any]) -> Changes:
    """One record with all of them."""
    return book.write(records.Applied(id="x", manifests=manifests, by="test"))


@pytest.mark.parametrize(
    "clashing",
    [
        ({"kind": "cluster", "name": "a"},),
        ({"kind": "machine", "name": "new"}, {"kind": "cluster", "name": "new"}),
    ],
    ids=["with one that is there", "among themselves"],
)
def test_manifests_are_applied_all_or_none_if_an_elements_name_is_taken(clashing: tuple[dict[str, Any], ...]) -> None:
    """Each broker checks that before it writes, but two may write at the same time."""
    book = Book()
    before = set(book.state.fleet.stored)
    changes = apply(book, {"kind": "profile", "name": "first"}, *clashing, {"kind": "profile", "name": "last"})
    assert changes.refused is not None
    assert "element names are unique" in changes.refused.reason
    assert (set(book.state.fleet.stored), changes.objects) == (before, [])
