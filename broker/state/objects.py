"""Objects: manifests that are applied, all of a set or none, and deleted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from muster.broker.state.aggregate import Aggregate, aggregates
from muster.broker.state.element import StoredObject
from muster.broker.state.step import Refused, Step
from muster.broker.state.topics import OBJECT
from muster.mesh import records
from muster.mesh.names import is_name

if TYPE_CHECKING:
    from muster.broker.state.world import World

NO_FACTS: Final = records.Facts()

MOST_NAMED: Final = 5
"""Users of an object that are named when it must not be deleted."""


def applied(step: Step, record: records.Applied) -> Refused | None:
    """Stores all manifests of a record, or none.

    Whether this broker can read one does not matter: another one has checked it, and all must agree.
    """
    if reason := _why_not_applied(record, step.world):
        return Refused(reason)
    for manifest in record.manifests:
        _apply(step, manifest, record)
    return None


def _why_not_applied(record: records.Applied, world: World) -> str:
    kinds: dict[str, str] = {}
    for manifest in record.manifests:
        kind, name = str(manifest.get("kind")), str(manifest.get("name"))
        if not is_name(name) or not is_name(kind):
            return f"{f'{kind}/{name}'[:80]!r} does not name an object"
        if not _facts(record, kind, name).is_element:
            continue
        element = world.elements.get(name)
        holder = element.kind if element is not None else kinds.setdefault(name, kind)
        if holder != kind:
            return f"{name} is a {holder} already; element names are unique"
    return ""


def _facts(record: records.Applied, kind: str, name: str) -> records.Facts:
    return record.facts.get(f"{kind}/{name}", NO_FACTS)


def _apply(step: Step, manifest: dict[str, Any], record: records.Applied) -> None:
    objects, stamp = step.world.objects, step.stamp
    kind, name = str(manifest["kind"]), str(manifest["name"])
    before = objects.stored.get((kind, name))
    if before is not None and before.says(manifest):
        return
    facts = _facts(record, kind, name)
    stored = StoredObject(
        kind=kind,
        name=name,
        version=objects.next_version(kind, name),
        manifest=manifest,
        created_at=before.created_at if before else stamp.time,
        changed_at=stamp.time,
        seq=stamp.seq,
        is_element=facts.is_element,
        uses=facts.uses,
    )
    for aggregate in aggregates():
        if (complete := aggregate.completes.get(kind)) is not None:
            stored = complete(stored, before)
    put(step, stored)
    data = {"kind": kind, "version": stored.version, "by": str(record.by)}
    step.changes.event("object.changed" if before else "object.created", name, data)
    step.enqueue(OBJECT, stored.key)


def put(step: Step, stored: StoredObject) -> None:
    """Makes an object what it is now."""
    step.world.objects.put(stored)
    step.changes.things["object", stored.key] = stored


def deleted(step: Step, record: records.Deleted) -> Refused | None:
    """Deletes an object that nothing needs."""
    world, kind, name = step.world, record.object_kind, record.name
    last = world.objects.stored.get((kind, name))
    if last is None:
        return Refused(f"there is no {kind} {name}")
    reason = next((why for it in aggregates() for why in it.why_kept(world, kind, name)), "")
    if reason:
        return Refused(reason)
    world.objects.drop(kind, name)
    if last.is_element:
        step.changes.things["object", last.key] = None
    else:
        world.objects.retire(last)
        step.changes.things["object", last.key] = replace(last, manifest={}, uses=(), is_deleted=True)
    step.changes.event("object.deleted", name, {"kind": kind, "by": str(record.by)})
    step.enqueue(OBJECT, last.key)
    return None


def why_kept(world: World, kind: str, name: str) -> Iterator[str]:
    """Yields why an object must not be deleted: others use it."""
    users = world.objects.users(f"{kind}/{name}")
    stored = world.objects.stored.get((kind, name))
    if stored is not None and stored.is_element:
        users += world.objects.users(f"element/{name}")
    if users:
        more = f" and {len(users) - MOST_NAMED} more" if len(users) > MOST_NAMED else ""
        named = ", ".join(user.replace("/", " ", 1) for user in users[:MOST_NAMED])
        yield f"{kind} {name} is used by {named}{more}"


def load(world: World, _kind: str, stored: StoredObject) -> None:
    """Takes an object that a projection kept."""
    if stored.is_deleted:
        world.objects.retire(stored)
    else:
        world.objects.put(stored)


AGGREGATE: Final = Aggregate(
    name="objects",
    things={"object": StoredObject},
    load=load,
    handlers={records.Applied: applied, records.Deleted: deleted},
    why_kept=why_kept,
)
