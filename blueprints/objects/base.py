"""What all kinds of manifest share, and how a kind describes itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import msgspec

from muster.mesh.errors import Problem
from muster.mesh.model import Mode
from muster.mesh.structs import Wire


class Manifest(Wire):
    """Base of every object's manifest."""

    name: str
    kind: str = ""
    summary: str = ""
    labels: dict[str, str] = {}
    """Text to text, for filters."""


class ElementManifest(Manifest):
    """Base of what an agent may act for."""

    params: dict[str, Any] = {}
    """Any JSON, for filters and inputs."""
    profiles: tuple[str, ...] = ()
    """Whose params it takes too; the first that has one wins."""
    mode: Mode | None = None
    """What it is for; None leaves it as it is (a new element: `work_order`)."""
    slots: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 1
    """How many orders it runs at a time."""


class Catalog(Protocol):
    """The objects that there are, for checks that read others."""

    def get(self, kind: str, name: str) -> Manifest | None:
        """One object, or None if there is none of that name."""
        ...

    def all(self, kind: str) -> Iterable[Manifest]:
        """All objects of a kind."""
        ...


Check = Callable[[Any, Catalog], Iterable[Problem]]


def profiles_used(manifest: Any) -> Iterator[str]:
    """Yields the profiles of an element; what other manifests use, their kinds say."""
    if isinstance(manifest, ElementManifest):
        yield from (f"profile/{name}" for name in manifest.profiles)


@dataclass(frozen=True, kw_only=True)
class ObjectKind:
    """A kind of manifest: what an entry point of `muster.objects` names."""

    kind: str
    manifest: type[Manifest]
    """The strict struct that its documents are decoded to."""
    check: Check
    """What is wrong with a manifest beyond its types; the catalog holds what is applied with it too."""
    is_element: bool = False
    uses: Callable[[Any], Iterable[str]] = profiles_used
    """What must not be deleted while a manifest is there: `KIND/NAME`, or `element/NAME` for an element of any kind."""
    is_settings: bool = False
    """The mesh's own settings: nobody deletes them, and a field that a manifest leaves out keeps its value."""

    def __post_init__(self) -> None:
        """Refuses a name whose plural would be ambiguous."""
        if self.kind.endswith("s"):
            raise ValueError(f"a kind is named in the singular, without a final s: {self.kind!r}")

    @property
    def summary(self) -> str:
        """Returns the first line of what its manifest says of itself."""
        return (self.manifest.__doc__ or "").strip().partition("\n")[0]

    @property
    def plural(self) -> str:
        """The kind in URLs and listings."""
        return self.kind + "s"
