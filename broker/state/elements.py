"""Elements: what joins, leaves and changes them, and what follows from their manifests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from muster.broker.state.aggregate import Aggregate
from muster.broker.state.element import Element
from muster.broker.state.step import Refused, Step
from muster.broker.state.topics import OBJECT, SUCCEEDED, VIEW, WORK
from muster.mesh import records
from muster.mesh.model import Mode

if TYPE_CHECKING:
    from muster.broker.state.world import World


def joined(step: Step, record: records.Joined) -> Refused | None:
    """Makes an element online: an agent acts for it from now on."""
    element = step.world.elements.get(record.element)
    if element is None:
        return Refused(f"there is no element {record.element}")
    is_successor = bool(record.place) and record.place == element.place
    after = replace(
        element,
        agent=record.agent,
        place=record.place or element.place,
        last=record.agent,
        succeeds=element.last if is_successor and element.last != record.agent else None,
        since=step.stamp.time,
    )
    step.changes.event("element.online", after.name, {"agent": record.agent})
    put(step, element, after)
    if is_successor:
        step.enqueue(SUCCEEDED, after.name)
    return None


def left(step: Step, record: records.Left) -> Refused | None:
    """Makes an element offline."""
    element = step.world.elements.get(record.element)
    if element is None or element.agent != record.agent:
        return Refused(f"agent {record.agent} does not act for {record.element}")
    step.changes.event("element.offline", element.name, {"agent": record.agent, "reason": record.reason})
    put(step, element, replace(element, agent=None, since=step.stamp.time))
    return None


def mode_changed(step: Step, record: records.ModeChanged) -> Refused | None:
    """Switches an element to another mode."""
    element = step.world.elements.get(record.element)
    if element is None or record.mode not in set(Mode):
        return Refused(f"there is no element {record.element}, or no mode {record.mode}")
    step.changes.event("element.mode", element.name, {"mode": record.mode, "by": str(record.by)})
    put(step, element, replace(element, mode=Mode(record.mode)))
    return None


def drain_changed(step: Step, record: records.DrainChanged) -> Refused | None:
    """Has an element take nothing new, or take work again."""
    element = step.world.elements.get(record.element)
    if element is None:
        return Refused(f"there is no element {record.element}")
    kind = "element.drained" if record.drained else "element.undrained"
    step.changes.event(kind, element.name, {"by": str(record.by)})
    put(step, element, replace(element, drained=record.drained))
    return None


def put(step: Step, before: Element | None, after: Element) -> None:
    """Stores an element, and enqueues everything that depends on it."""
    step.world.elements[after.name] = after
    step.changes.things["element", after.name] = after
    changed(step, after.name)
    if before is None or (before.mode, before.drained) != (after.mode, after.drained):
        step.enqueue(WORK, after.name)


def changed(step: Step, name: str) -> None:
    """Filters may see something else of an element, and its agent must know it."""
    step.world.objects.version += 1
    step.changes.assignments.add(name)
    step.enqueue(VIEW, name)


def object_changed(step: Step, key: str) -> None:
    """Makes or removes an element with its manifest; a profile changes the elements that have it."""
    kind, _, name = key.partition("/")
    world = step.world
    stored, element = world.objects.stored.get((kind, name)), world.elements.get(name)
    if stored is not None and stored.is_element:
        mode = stored.manifest.get("mode")
        after = element or Element(name=name, kind=kind)
        put(step, element, replace(after, mode=Mode(mode)) if mode in set(Mode) else after)
    elif stored is None and element is not None and element.kind == kind:
        del world.elements[name]
        step.changes.things["element", name] = None
        step.changes.assignments.add(name)
        step.enqueue(VIEW, name)
        step.enqueue(WORK, name)
    for user in world.objects.users(key) if kind == "profile" else ():
        its_kind, _, its_name = user.partition("/")
        if (found := world.elements.get(its_name)) is not None and found.kind == its_kind:
            changed(step, its_name)


def why_kept(world: World, kind: str, name: str) -> Iterator[str]:
    """Yields why an element must not be deleted."""
    element = world.elements.get(name)
    if element is None or element.kind != kind:
        return
    if count := world.held.open_for(name):
        yield f"{kind} {name} has {count} open orders; wait for them or cancel them"
    if element.agent is not None:
        yield f"an agent acts for {kind} {name}, and would make it anew; stop that agent, then delete {name}"


def shown(world: World, kind: str, name: str) -> Mapping[str, Any]:
    """Returns how an element is."""
    element = world.elements.get(name)
    if element is None or element.kind != kind:
        return {}
    manifest = world.fleet.manifest_of(name)
    return {
        "labels": manifest.labels if manifest else {},
        "params": world.fleet.params(name)[0],
        "slots": world.fleet.slots(name),
        "mode": element.mode,
        "drained": element.drained,
        "online": element.agent is not None,
        "agent": element.agent,
        "since": element.since,
        "pools": list(world.pools.of(name)),
        "running": world.held.by(name),
    }


def load(world: World, _kind: str, element: Element) -> None:
    """Takes an element that a projection kept."""
    world.elements[element.name] = element


AGGREGATE: Final = Aggregate(
    name="elements",
    things={"element": Element},
    load=load,
    handlers={
        records.Joined: joined,
        records.Left: left,
        records.ModeChanged: mode_changed,
        records.DrainChanged: drain_changed,
    },
    rules={OBJECT: object_changed},
    why_kept=why_kept,
    shown=shown,
)
