"""Elements with their manifests and profiles: params, what filters see, and what agents must know."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final, NamedTuple

from muster.blueprints.event_expressions import EventFilter
from muster.blueprints.expressions import Filter
from muster.blueprints.objects.base import ElementManifest
from muster.blueprints.objects.profile import Profile
from muster.broker.state.element import Element
from muster.broker.state.pool_index import Pools
from muster.broker.state.stored import Objects
from muster.mesh.canonical import canonical
from muster.mesh.messages import Assignment

MOST_MATCHES: Final = 1000
"""Filters whose matches are remembered."""


class _Matches(NamedTuple):
    version: int
    filter: Filter
    names: tuple[str, ...]


class Fleet:
    """Reads elements, objects and pools together; it keeps nothing but remembered matches."""

    def __init__(self, elements: Mapping[str, Element], objects: Objects, pools: Pools) -> None:
        self._elements = elements
        self._objects = objects
        self._pools = pools
        self._matches: dict[str, _Matches] = {}
        self._event_matches: dict[str, tuple[int, tuple[str, ...]]] = {}

    @property
    def version(self) -> int:
        """Another one whenever an object or an element changes: a filter may match others."""
        return self._objects.version

    def manifest_of(self, element: str) -> ElementManifest | None:
        """Returns an element's manifest."""
        status = self._elements.get(element)
        return self._objects.element(status.kind, element) if status is not None else None

    def slots(self, element: str) -> int:
        """Returns how many orders an element runs at a time."""
        manifest = self.manifest_of(element)
        return manifest.slots if manifest is not None else 1

    def params(self, element: str) -> tuple[dict[str, Any], dict[str, str]]:
        """Returns an element's params with its profiles' beneath, and where each came from."""
        manifest = self.manifest_of(element)
        if manifest is None:
            return {}, {}
        values: dict[str, Any] = dict(manifest.params)
        sources = dict.fromkeys(values, "element")
        for name in manifest.profiles:
            profile = self._objects.get("profile", name)
            if not isinstance(profile, Profile):
                continue
            for key, value in profile.params.items():
                if key not in values:
                    values[key] = value
                    sources[key] = f"profile:{name}"
        return values, sources

    def view(self, element: str) -> Mapping[str, Any]:
        """Returns an element as filters see it."""
        status, manifest = self._elements[element], self.manifest_of(element)
        if manifest is None:
            return {}
        return {
            "kind": status.kind,
            "name": element,
            "labels": manifest.labels,
            "params": self.params(element)[0],
            "profiles": list(manifest.profiles),
            "mode": str(status.mode),
            "online": status.agent is not None,
            "drained": status.drained,
            "slots": manifest.slots,
        }

    def may_serve(self, pool: str, element: str) -> bool:
        """Returns whether an element is in a pool, or will be once it is known to be online."""
        if element in self._pools.members.get(pool, ()):
            return True
        return element in self._elements and self._pools.matches(pool, {**self.view(element), "online": True})

    def matching(self, where: str) -> tuple[str, ...]:
        """Returns the elements that a filter matches, by name; remembered until something changes.

        Raises:
            InvalidError: it is not a filter.
        """
        known = self._matches.get(where)
        if known is not None and known.version == self.version:
            return known.names
        chosen = known.filter if known is not None else Filter(where)
        names = tuple(sorted(name for name in self._elements if chosen.matches(self.view(name))))
        if len(self._matches) >= MOST_MATCHES:
            self._matches.clear()
        self._matches[where] = _Matches(self.version, chosen, names)
        return names

    def matching_event(self, chosen: EventFilter, values: Mapping[str, Any]) -> tuple[str, ...]:
        """Returns the elements that a filter over an event matches, by name; remembered for the fields that it reads.

        Raises:
            EvaluationError: the event lacks what it reads.
        """
        given = chosen.given(values)
        key = f"{chosen.text}\n{sha256(canonical(given)).hexdigest()}"
        known = self._event_matches.get(key)
        if known is not None and known[0] == self.version:
            return known[1]
        names = tuple(sorted(name for name in self._elements if chosen.matches(self.view(name), given)))
        if len(self._event_matches) >= MOST_MATCHES:
            self._event_matches.clear()
        self._event_matches[key] = (self.version, names)
        return names

    def assignment(self, element: str) -> Assignment | None:
        """Returns what the element's agent must know."""
        manifest = self.manifest_of(element)
        if manifest is None:
            return None
        status = self._elements[element]
        params, sources = self.params(element)
        return Assignment(
            element=element,
            kind=status.kind,
            takes_work=status.takes_work,
            slots=manifest.slots,
            pools=self._pools.of(element),
            params=params,
            sources=sources,
            labels=manifest.labels,
            mode=status.mode,
        )
