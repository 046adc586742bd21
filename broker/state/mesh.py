"""The settings of the mesh: an object that nobody deletes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from muster.broker.state.aggregate import Aggregate

if TYPE_CHECKING:
    from muster.broker.state.world import World

KIND: Final = "mesh"


def why_kept(_world: World, kind: str, name: str) -> Iterator[str]:
    """Yields why the settings must not be deleted: the mesh needs them."""
    if kind == KIND:
        yield f"{kind} {name} holds the settings of this mesh; change it with `muster apply` instead"


AGGREGATE: Final = Aggregate(name="mesh", why_kept=why_kept)
