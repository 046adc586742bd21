"""What the state machine decides about manifests that are applied together."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from muster.broker.state.changes import Changes
from muster.broker.state.element import StoredObject
from muster.broker.state.kept import Kept
from muster.broker.state.world import World
from muster.mesh import records
from muster.mesh.caller import Caller
from tests.broker.test_firing_state import Book
from tests.kit.manifests import applied


def apply(book: Book, *manifests: dict[str, Any]) -> Changes:
    """One record with all of them."""
    return book.write(applied(manifests))


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
    before = set(book.state.objects.stored)
    changes = apply(book, {"kind": "profile", "name": "first"}, *clashing, {"kind": "profile", "name": "last"})
    assert changes.refused is not None
    assert "element names are unique" in changes.refused.reason
    assert (set(book.state.objects.stored), changes.things) == (before, {})


def test_an_object_that_is_made_again_continues_to_count_its_versions() -> None:
    book = Book()
    for color in ("red", "blue"):
        apply(book, {"kind": "profile", "name": "p", "params": {"color": color}})
    deleted = book.write(records.Deleted(id="y", object_kind="profile", name="p", by=Caller(name="test")))
    assert book.state.objects.get("profile", "p") is None
    things = [(*key, msgspec.json.encode(thing)) for key, thing in deleted.things.items()]
    kept = Kept(seq=0, time=None, things=things)
    restarted = World()
    restarted.load(kept)
    for state in (book.state, restarted):
        assert ("profile", "p") not in state.objects.stored
        assert state.objects.next_version("profile", "p") == 3
    (again,) = apply(book, {"kind": "profile", "name": "p"}).things.values()
    assert isinstance(again, StoredObject)
    assert (again.version, again.is_deleted) == (3, False)
