"""Elements, what is applied to them, and who is a member of which pool."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from muster.blueprints.expressions import Filter
from muster.blueprints.manifest import decode, object_kinds
from muster.blueprints.objects.base import ElementManifest, Manifest
from muster.blueprints.objects.pool import Pool
from muster.blueprints.objects.profile import Profile
from muster.broker.state.element import Element, StoredObject
from muster.mesh.model import Assignment


class Fleet:
    """Objects and elements as they stand; also the catalog that manifests are checked against."""

    def __init__(self) -> None:
        self.stored: dict[tuple[str, str], StoredObject] = {}
        self.elements: dict[str, Element] = {}
        self.members: dict[str, set[str]] = {}
        """Pool to the elements that its filter matches."""
        self._manifests: dict[tuple[str, str], Manifest] = {}
        self._filters: dict[str, Filter] = {}

    def get(self, kind: str, name: str) -> Manifest | None:
        """One manifest, decoded."""
        return self._manifests.get((kind, name))

    def all(self, kind: str) -> Iterator[Manifest]:
        """All manifests of a kind."""
        return (manifest for (its_kind, _), manifest in self._manifests.items() if its_kind == kind)

    def put(self, stored: StoredObject) -> None:
        """Keep an object; a pool's members are worked out anew.

        Raises:
            InvalidError: its manifest does not decode.
        """
        key = (stored.kind, stored.name)
        manifest = decode(stored.manifest)
        self._manifests[key] = manifest
        self.stored[key] = stored
        if isinstance(manifest, Pool):
            chosen = Filter(manifest.where)
            self._filters[stored.name] = chosen
            self.members[stored.name] = {name for name in self.elements if chosen.matches(self.view(name))}

    def drop(self, kind: str, name: str) -> None:
        """Forget an object."""
        self.stored.pop((kind, name), None)
        self._manifests.pop((kind, name), None)
        if kind == "pool":
            self._filters.pop(name, None)
            self.members.pop(name, None)
        if is_element_kind(kind):
            self.elements.pop(name, None)
            for members in self.members.values():
                members.discard(name)

    def regroup(self, element: str) -> set[str]:
        """Work out anew which pools an element is in; the pools it joined or left."""
        changed = set()
        view = self.view(element)
        for pool, chosen in self._filters.items():
            members = self.members[pool]
            if chosen.matches(view) == (element in members):
                continue
            members.symmetric_difference_update({element})
            changed.add(pool)
        return changed

    def manifest_of(self, element: str) -> ElementManifest | None:
        """An element's manifest."""
        standing = self.elements.get(element)
        found = self._manifests.get((standing.kind, element)) if standing is not None else None
        return found if isinstance(found, ElementManifest) else None

    def params(self, element: str) -> tuple[dict[str, Any], dict[str, str]]:
        """An element's params with its profiles' beneath, and where each came from."""
        manifest = self.manifest_of(element)
        if manifest is None:
            return {}, {}
        values: dict[str, Any] = dict(manifest.params)
        sources = dict.fromkeys(values, "element")
        for name in manifest.profiles:
            profile = self.get("profile", name)
            if not isinstance(profile, Profile):
                continue
            for key, value in profile.params.items():
                if key not in values:
                    values[key] = value
                    sources[key] = f"profile:{name}"
        return values, sources

    def view(self, element: str) -> Mapping[str, Any]:
        """An element as filters see it."""
        standing, manifest = self.elements[element], self.manifest_of(element)
        if manifest is None:
            return {}
        return {
            "kind": standing.kind,
            "name": element,
            "labels": manifest.labels,
            "params": self.params(element)[0],
            "profiles": list(manifest.profiles),
            "mode": str(standing.mode),
            "online": standing.agent is not None,
            "drained": standing.drained,
            "slots": manifest.slots,
        }

    def pools_of(self, element: str) -> tuple[str, ...]:
        """The pools an element is in, by name."""
        return tuple(sorted(pool for pool, members in self.members.items() if element in members))

    def assignment(self, element: str) -> Assignment | None:
        """What the element's agent must know."""
        manifest = self.manifest_of(element)
        if manifest is None:
            return None
        standing = self.elements[element]
        params, sources = self.params(element)
        return Assignment(
            element=element,
            kind=standing.kind,
            takes_work=standing.takes_work,
            slots=manifest.slots,
            pools=self.pools_of(element),
            params=params,
            sources=sources,
            labels=manifest.labels,
            mode=standing.mode,
        )

    def using(self, profile: str) -> list[str]:
        """Elements that have a profile."""
        return [
            name
            for name in self.elements
            if (manifest := self.manifest_of(name)) is not None and profile in manifest.profiles
        ]


def is_element_kind(kind: str) -> bool:
    """Whether objects of this kind are elements."""
    known = object_kinds().get(kind)
    return known is not None and known.is_element
