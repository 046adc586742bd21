"""What people may do with objects: apply, delete."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from nats.aio.client import Client

from muster.blueprints.definition import Blueprint
from muster.blueprints.facts import facts_of
from muster.blueprints.manifest import Loaded, check_all, completed
from muster.blueprints.objects import object_kinds
from muster.blueprints.objects.mesh import Mesh
from muster.broker.accepted import accepted
from muster.broker.blueprint_store import BlueprintStore
from muster.broker.means import Means
from muster.broker.planning.targets import suggestion
from muster.broker.settings import check_possible
from muster.mesh import names, records
from muster.mesh.caller import Caller
from muster.mesh.errors import NotFoundError, TooLargeError
from muster.mesh.settings import MAX_BODY
from muster.mesh.structs import Wire


class ObjectChange(Wire):
    """What applying did, or would do, to one object."""

    kind: str
    name: str
    action: Literal["created", "changed", "unchanged"]
    version: int
    before: dict[str, Any] | None
    after: dict[str, Any]


class Objects:
    """The write path of everything that has a manifest."""

    def __init__(self, means: Means, client: Client, store: BlueprintStore) -> None:
        self._world, self._log, *_ = means
        self._client = client
        self._store = store

    async def apply(self, loaded: list[Loaded], *, by: Caller, dry_run: bool = False) -> list[ObjectChange]:
        """Creates or changes objects: all or nothing, in one record.

        Raises:
            InvalidError: something is wrong with them; every problem is listed, with file and line.
            RefusedError: the state machine refused it (an element's name is taken by another kind).
            TooLargeError: they are more than one record holds.
        """
        loaded = [self._completed(document) for document in loaded]
        check_all(loaded, self._world.objects)
        changes = [self._compare(document) for document in loaded]
        wanted = [document for document, change in zip(loaded, changes, strict=True) if change.action != "unchanged"]
        await self._check_possible(wanted)
        if dry_run or not wanted:
            return changes
        manifests = tuple(document.raw for document in wanted)
        record = records.Applied(id=names.new_id(), manifests=manifests, facts=facts_of(manifests), by=by)
        if len(size := records.encode(record)) > MAX_BODY - 65536:
            raise TooLargeError(
                f"these manifests make {len(size)} bytes, more than one record holds; apply them in parts"
            )
        for document in wanted:  # before the record: whoever runs an order of a version must find it
            if isinstance(document.manifest, Blueprint):
                await self._store.put(document.manifest)
        accepted(await self._log.append(record))
        return changes

    async def delete(self, kind: str, name: str, *, by: Caller) -> None:
        """Deletes an object.

        Raises:
            NotFoundError: no such object.
            RefusedError: something still needs it.
        """
        if (kind, name) not in self._world.objects.stored:
            known = [its_name for its_kind, its_name in self._world.objects.stored if its_kind == kind]
            raise NotFoundError(f"there is no {kind} {name!r}{suggestion(name, known)}")
        accepted(await self._log.append(records.Deleted(id=names.new_id(), object_kind=kind, name=name, by=by)))

    async def _check_possible(self, wanted: Iterable[Loaded]) -> None:
        for document in wanted:
            if isinstance(document.manifest, Mesh):
                before = self._world.objects.get(document.kind, document.name)
                await check_possible(self._client, before, document.manifest)

    def _completed(self, document: Loaded) -> Loaded:
        """Fills in what a manifest of settings leaves out from what holds now."""
        before = self._world.objects.stored.get((document.kind, document.name))
        if before is None or not object_kinds()[document.kind].is_settings:
            return document
        return completed(document, before.manifest)

    def _compare(self, document: Loaded) -> ObjectChange:
        before = self._world.objects.stored.get((document.kind, document.name))
        action: Literal["created", "changed", "unchanged"] = "created"
        if before is not None:
            action = "unchanged" if before.says(document.raw) else "changed"
        return ObjectChange(
            kind=document.kind,
            name=document.name,
            action=action,
            version=before.version if before and action == "unchanged" else self._next_version(document),
            before=before.manifest if before else None,
            after=document.raw,
        )

    def _next_version(self, document: Loaded) -> int:
        return self._world.objects.next_version(document.kind, document.name)
