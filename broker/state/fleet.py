"""Elements, what is applied to them, and who is a member of which pool."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from typing import Any, Final, NamedTuple

from muster.blueprints.child_orders import child_blueprints
from muster.blueprints.definition import Blueprint
from muster.blueprints.event_expressions import EventFilter
from muster.blueprints.expressions import Filter
from muster.blueprints.manifest import decode
from muster.blueprints.objects import element_kinds
from muster.blueprints.objects.base import ElementManifest, Manifest
from muster.blueprints.objects.cluster import Cluster
from muster.blueprints.objects.pool import Pool
from muster.blueprints.objects.profile import Profile
from muster.blueprints.objects.trigger import Trigger
from muster.broker.state.element import Element, StoredObject
from muster.mesh.canonical import canonical
from muster.mesh.errors import InvalidError
from muster.mesh.model import Assignment
from muster.mesh.names import queue_pool

MOST_MATCHES: Final = 1000
"""Filters whose matches are remembered."""


class _Matches(NamedTuple):
    version: int
    filter: Filter
    names: tuple[str, ...]


class Fleet:
    """Objects and elements as they stand; also the catalog that manifests are checked against."""

    def __init__(self) -> None:
        self.stored: dict[tuple[str, str], StoredObject] = {}
        self.retired: dict[tuple[str, str], int] = {}
        """Objects that were deleted, and their last version.  Not elements: those come and go without bound."""
        self.elements: dict[str, Element] = {}
        self.members: dict[str, set[str]] = {}
        """Pool to the elements that its filter matches."""
        self._manifests: dict[tuple[str, str], Manifest] = {}
        self._filters: dict[str, Filter] = {}
        self._uses: dict[str, int] = {}
        """Pools without a name, and by how many triggers and open orders each is used."""
        self.version = 0
        """Another one whenever an object or an element changes: a filter may match others."""
        self._matches: dict[str, _Matches] = {}
        self._event_matches: dict[str, tuple[int, tuple[str, ...]]] = {}
        self.queue_news: dict[str, set[str]] = {}
        """Pools without a name that came or went, and who was a member, since somebody looked."""

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
        manifest, before = decode(stored.manifest), self._manifests.get(key)
        self.version += 1
        self._manifests[key] = manifest
        self.stored[key] = stored
        self.retired.pop(key, None)
        if isinstance(manifest, Pool):
            self._group(stored.name, manifest.where)
        elif isinstance(manifest, Trigger):
            self._use_for(manifest)
            if isinstance(before, Trigger):
                self._leave_for(before)

    def retire(self, stored: StoredObject) -> None:
        """Remember the version of an object that was deleted."""
        self.retired[stored.kind, stored.name] = stored.version

    def next_version(self, kind: str, name: str) -> int:
        """The version that the object's next manifest makes."""
        before = self.stored.get((kind, name))
        return (before.version if before is not None else self.retired.get((kind, name), 0)) + 1

    def drop(self, kind: str, name: str) -> None:
        """Forget an object."""
        self.stored.pop((kind, name), None)
        manifest = self._manifests.pop((kind, name), None)
        self.version += 1
        if isinstance(manifest, Trigger):
            self._leave_for(manifest)
        if kind == "pool":
            self._filters.pop(name, None)
            self.members.pop(name, None)
        if is_element_kind(kind):
            self.elements.pop(name, None)
            for members in self.members.values():
                members.discard(name)

    # -- pools without a name -------------------------------------------------------------------

    def use_queue(self, pool: str, where: str) -> None:
        """One more needs the pool that a filter defines."""
        uses = self._uses.get(pool, 0)
        self._uses[pool] = uses + 1
        if uses:
            return
        self._group(pool, where)
        self.queue_news[pool] = set(self.members[pool])

    def leave_queue(self, pool: str) -> None:
        """One fewer needs it; it is gone with the last."""
        uses = self._uses.get(pool, 0) - 1
        if uses > 0:
            self._uses[pool] = uses
            return
        self._uses.pop(pool, None)
        self._filters.pop(pool, None)
        self.queue_news[pool] = self.members.pop(pool, set())

    def is_queue(self, pool: str) -> bool:
        """Whether it is a pool without a name that somebody needs."""
        return pool in self._uses

    def queues(self) -> Iterator[str]:
        """All pools without a name."""
        return iter(self._uses)

    def _use_for(self, trigger: Trigger) -> None:
        if trigger.target.queue and (where := trigger.target.where) is not None:
            self.use_queue(queue_pool(where), where)

    def _leave_for(self, trigger: Trigger) -> None:
        if trigger.target.queue and (where := trigger.target.where) is not None:
            self.leave_queue(queue_pool(where))

    # -------------------------------------------------------------------------------------------

    def _group(self, pool: str, where: str) -> None:
        """Work out a pool's members.

        Its filter was checked before it was written, but an older Muster may have taken what this one
        does not: nobody matches what is no filter.
        """
        self._filters.pop(pool, None)
        self.members[pool] = set()
        with suppress(InvalidError):
            chosen = self._filters[pool] = Filter(where)
            self.members[pool] = {name for name in self.elements if chosen.matches(self.view(name))}

    def may_serve(self, pool: str, element: str) -> bool:
        """Whether an element is in a pool, or is but for the time that it takes to see that it is online."""
        if element in self.members.get(pool, ()):
            return True
        chosen = self._filters.get(pool)
        return chosen is not None and chosen.matches({**self.view(element), "online": True})

    def regroup(self, element: str) -> set[str]:
        """Work out anew which pools an element is in; the pools it joined or left."""
        self.version += 1
        changed = set()
        view = self.view(element)
        for pool, chosen in self._filters.items():
            members = self.members[pool]
            if chosen.matches(view) == (element in members):
                continue
            members.symmetric_difference_update({element})
            changed.add(pool)
        return changed

    def matching(self, where: str) -> tuple[str, ...]:
        """The elements that a filter matches, by name; remembered until something changes.

        Raises:
            InvalidError: it is no filter.
        """
        known = self._matches.get(where)
        if known is not None and known.version == self.version:
            return known.names
        chosen = known.filter if known is not None else Filter(where)
        names = tuple(sorted(name for name in self.elements if chosen.matches(self.view(name))))
        if len(self._matches) >= MOST_MATCHES:
            self._matches.clear()
        self._matches[where] = _Matches(self.version, chosen, names)
        return names

    def matching_event(self, chosen: EventFilter, values: Mapping[str, Any]) -> tuple[str, ...]:
        """The elements that a filter over an event matches, by name; remembered likewise, for what it reads.

        Raises:
            EvaluationError: the event has not what it reads.
        """
        given = chosen.given(values)
        key = f"{chosen.text}\n{sha256(canonical(given)).hexdigest()}"
        known = self._event_matches.get(key)
        if known is not None and known[0] == self.version:
            return known[1]
        names = tuple(sorted(name for name in self.elements if chosen.matches(self.view(name), given)))
        if len(self._event_matches) >= MOST_MATCHES:
            self._event_matches.clear()
        self._event_matches[key] = (self.version, names)
        return names

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

    def needing(self, kind: str, name: str) -> list[str]:
        """What needs an object to exist: elements with a profile, clusters, triggers, blueprints with child orders."""
        if kind == "profile":
            return self.using(name)
        if kind == "blueprint":
            return [f"{found.kind} {found.name}" for found in self._manifests.values() if _makes_orders_of(found, name)]
        if not is_element_kind(kind):
            return []
        clusters = [found for found in self._manifests.values() if isinstance(found, Cluster)]
        return [cluster.name for cluster in clusters if name in cluster.members]


def _makes_orders_of(manifest: Manifest, blueprint: str) -> bool:
    if isinstance(manifest, Trigger):
        return manifest.blueprint == blueprint
    return isinstance(manifest, Blueprint) and blueprint in child_blueprints(manifest)


def is_element_kind(kind: str) -> bool:
    """Whether objects of this kind are elements."""
    return kind in element_kinds()
