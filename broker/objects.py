"""What people and agents may do with objects and elements: apply, delete, mode, drain, join, leave."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Literal

from muster.blueprints.definition import Blueprint
from muster.blueprints.manifest import Loaded, check_all
from muster.broker.means import Means
from muster.broker.presence import Presences
from muster.broker.streams import StreamSettings
from muster.broker.targets import suggestion
from muster.mesh import names, records
from muster.mesh.errors import NotFoundError, RefusedError, TooLargeError
from muster.mesh.jetstream import LostRaceError
from muster.mesh.model import Mode, Wire
from muster.mesh.settings import MAX_BODY


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

    def __init__(self, means: Means, settings: StreamSettings, presences: Presences) -> None:
        self._client, self._state, self._log, self._query, self._ids = means
        self._settings = settings
        self._presences = presences

    async def apply(self, loaded: list[Loaded], by: str, *, dry_run: bool = False) -> list[ObjectChange]:
        """Create or change objects: all or nothing, in one record.

        Raises:
            InvalidError: something is wrong with them; everything is told, with file and line.
            RefusedError: the state machine said no (an element's name is taken by another kind).
        """
        check_all(loaded, self._state.fleet)
        changes = [self._compare(document) for document in loaded]
        wanted = [document for document, change in zip(loaded, changes, strict=True) if change.action != "unchanged"]
        if dry_run or not wanted:
            return changes
        record = records.Applied(id=names.new_id(), manifests=tuple(document.raw for document in wanted), by=by)
        if len(size := records.encode(record)) > MAX_BODY - 65536:
            raise TooLargeError(
                f"these manifests make {len(size)} bytes, more than one record holds; apply them in parts"
            )
        await self._publish_blueprints(wanted)
        outcome = await self._log.append(record)
        if outcome.refused is not None:
            raise RefusedError(outcome.refused.reason)
        return changes

    async def delete(self, kind: str, name: str, by: str) -> None:
        """Remove an object.

        Raises:
            NotFoundError: there is none.
            RefusedError: something still needs it.
        """
        if (kind, name) not in self._state.fleet.stored:
            known = [its_name for its_kind, its_name in self._state.fleet.stored if its_kind == kind]
            raise NotFoundError(f"there is no {kind} {name!r}{suggestion(name, known)}")
        outcome = await self._log.append(records.Deleted(id=names.new_id(), object_kind=kind, name=name, by=by))
        if outcome.refused is not None:
            raise RefusedError(outcome.refused.reason)

    async def set_mode(self, element: str, mode: Mode, by: str) -> dict[str, Any]:
        """Switch an element to another mode; the element as it stands then."""
        self._known(element)
        if self._state.fleet.elements[element].mode is not mode:
            await self._change(records.ModeChanged(element=element, mode=mode, by=by))
        return await self._query.element(element)

    async def set_drained(self, element: str, drained: bool, by: str) -> dict[str, Any]:
        """Let an element take nothing new, or take work again; the element as it stands then."""
        self._known(element)
        if self._state.fleet.elements[element].drained is not drained:
            await self._change(records.DrainChanged(element=element, drained=drained, by=by))
        return await self._query.element(element)

    async def reject(self, subject: str, reason: str, body: str) -> None:
        """Keep a message that could not be used, with the reason."""
        await self._log.append(records.Rejected(id=names.new_id(), subject=subject, reason=reason, body=body[:65536]))

    async def announce(self, name: str, body: Any, *, key: str) -> None:
        """Put an event that somebody told of on the log, once for each key of its name."""
        record = records.Announced(id=self._ids.announced(name, key), name=name, body=body)
        with suppress(LostRaceError):  # it is there already
            await self._log.append(record, expect=0)

    def _compare(self, document: Loaded) -> ObjectChange:
        before = self._state.fleet.stored.get((document.kind, document.name))
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
        return self._state.fleet.next_version(document.kind, document.name)

    async def _publish_blueprints(self, loaded: list[Loaded]) -> None:
        """Before the record: whoever runs an order of a version must find it."""
        for document in loaded:
            if isinstance(document.manifest, Blueprint):
                entry = names.entry(names.BLUEPRINT_BUCKET, document.manifest.digest())
                await self._log.publisher.publish(entry, document.manifest.encoded())

    async def _change(self, record: records.ElementRecord) -> None:
        outcome = await self._log.append(record)
        if outcome.refused is not None:
            raise RefusedError(outcome.refused.reason)

    def _known(self, element: str) -> None:
        if element not in self._state.fleet.elements:
            raise NotFoundError(f"there is no element {element!r}{suggestion(element, self._state.fleet.elements)}")
