"""Objects: the manifests that were applied, decoded as far as this broker can read them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from muster.blueprints.manifest import decode
from muster.blueprints.objects.base import ElementManifest, Manifest
from muster.broker.state.element import StoredObject
from muster.mesh.errors import InvalidError
from muster.mesh.model import Mode


class _ElementFields(msgspec.Struct, frozen=True):
    """The fields that manifests of all element kinds have."""

    name: str
    kind: str
    summary: str = ""
    labels: dict[str, str] = {}
    params: dict[str, Any] = {}
    profiles: tuple[str, ...] = ()
    mode: Mode | None = None
    slots: int = 1


class Objects:
    """What is stored; also the catalog that new manifests are checked against."""

    def __init__(self) -> None:
        self.stored: dict[tuple[str, str], StoredObject] = {}
        """By kind and name."""
        self.retired: dict[tuple[str, str], int] = {}
        """Objects that were deleted, and their last version.  Not elements: those come and go without bound."""
        self.unreadable: dict[tuple[str, str], str] = {}
        """Objects that this broker cannot read, and why: their package is not installed, or of another version."""
        self.version = 0
        """Another one whenever an object or an element changes."""
        self._manifests: dict[tuple[str, str], Manifest] = {}
        self._users: dict[str, dict[str, None]] = {}

    def get(self, kind: str, name: str) -> Manifest | None:
        """Returns one manifest, decoded; None too if it cannot be read here."""
        return self._manifests.get((kind, name))

    def all(self, kind: str) -> Iterator[Manifest]:
        """Returns all readable manifests of a kind."""
        return (manifest for (its_kind, _), manifest in self._manifests.items() if its_kind == kind)

    def names(self, kind: str) -> list[str]:
        """Returns the names of a kind's objects, sorted."""
        return sorted(name for its_kind, name in self.stored if its_kind == kind)

    def element(self, kind: str, name: str) -> ElementManifest | None:
        """Returns an element's manifest; of one that cannot be read here, what all elements have."""
        found = self._manifests.get((kind, name))
        if isinstance(found, ElementManifest):
            return found
        stored = self.stored.get((kind, name))
        if stored is None:
            return None
        try:
            fields = msgspec.convert(stored.manifest, _ElementFields)
        except msgspec.ValidationError:
            return ElementManifest(name=name, kind=kind)
        return ElementManifest(**msgspec.structs.asdict(fields))

    def put(self, stored: StoredObject) -> None:
        """Keeps an object."""
        key = (stored.kind, stored.name)
        self._forget(key)
        self.version += 1
        self.stored[key] = stored
        self.retired.pop(key, None)
        for used in stored.uses:
            self._users.setdefault(used, {})[stored.key] = None
        try:
            self._manifests[key] = decode(stored.manifest)
        except InvalidError as error:
            problems = "; ".join(str(problem) for problem in error.problems)
            self.unreadable[key] = f"{error.detail}: {problems}" if problems else error.detail

    def drop(self, kind: str, name: str) -> None:
        """Forgets an object."""
        self._forget((kind, name))
        self.stored.pop((kind, name), None)
        self.version += 1

    def retire(self, stored: StoredObject) -> None:
        """Remembers the version of an object that was deleted."""
        self.retired[stored.kind, stored.name] = stored.version

    def next_version(self, kind: str, name: str) -> int:
        """Returns the version that the object's next manifest makes."""
        before = self.stored.get((kind, name))
        return (before.version if before is not None else self.retired.get((kind, name), 0)) + 1

    def users(self, used: str) -> list[str]:
        """Returns the objects, as `KIND/NAME`, that use one: `KIND/NAME`, or `element/NAME`."""
        return sorted(self._users.get(used, ()))

    def _forget(self, key: tuple[str, str]) -> None:
        self._manifests.pop(key, None)
        self.unreadable.pop(key, None)
        before = self.stored.get(key)
        for used in before.uses if before is not None else ():
            users = self._users.get(used, {})
            users.pop(f"{key[0]}/{key[1]}", None)
            if not users:
                self._users.pop(used, None)
