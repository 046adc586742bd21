"""Triggers: what fires, and what becomes of a trigger's orders and firings when its manifest changes or is deleted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from muster.blueprints.objects.trigger import Trigger
from muster.blueprints.provider import Schedule
from muster.broker.state import bursts, firing
from muster.broker.state.aggregate import Aggregate
from muster.broker.state.element import StoredObject
from muster.broker.state.lanes import LaneRule, owner_of
from muster.broker.state.step import Step
from muster.broker.state.topics import LANE, OBJECT
from muster.broker.state.trigger_status import TriggerStatus
from muster.mesh import records

if TYPE_CHECKING:
    from muster.broker.state.world import World

_POLICIES: Final = frozenset(Schedule.__struct_encode_fields__)


def owner(trigger: str) -> str:
    """Returns the owner of a trigger's lanes."""
    return f"trigger/{trigger}"


def _rule_of(world: World, trigger: str) -> LaneRule | None:
    """Returns how many orders of a trigger may be under way, by its manifest."""
    manifest = world.objects.get("trigger", trigger)
    if not isinstance(manifest, Trigger) or manifest.max_open is None:
        return None
    return LaneRule(limit=manifest.max_open, on_limit=manifest.on_overlap)


def _set_rule(step: Step, trigger: str, rule: LaneRule | None) -> None:
    for lane in step.world.lanes.rule(owner(trigger), rule):
        step.enqueue(LANE, lane)


def object_changed(step: Step, key: str) -> None:
    """A trigger was applied or deleted."""
    kind, _, name = key.partition("/")
    if kind != "trigger":
        return
    stored = step.world.objects.stored.get((kind, name))
    if stored is None:
        _deleted(step, name)
    else:
        _applied(step, stored)


def _applied(step: Step, stored: StoredObject) -> None:
    """It is new, or changed; of one that was deleted before, nothing is left."""
    world, name = step.world, stored.name
    status = world.trigger_statuses.get(name)
    if status is not None and status.max_open is not None:
        _forget(step, name)
    _set_rule(step, name, _rule_of(world, name))
    manifest = world.objects.get("trigger", name)
    if isinstance(manifest, Trigger) and (manifest.cooldown is None or manifest.key is None):
        bursts.forget_cooldowns(step, name)


def _deleted(step: Step, trigger: str) -> None:
    """It is gone; what its open orders must respect still holds until they have ended."""
    world = step.world
    rule = world.lanes.rules.get(owner(trigger))
    bursts.drop_pending(step, trigger)
    _forget(step, trigger)
    if rule is not None and world.lanes.count(owner(trigger)):
        bursts.keep(step, TriggerStatus(name=trigger, max_open=rule.limit))
        _set_rule(step, trigger, LaneRule(limit=rule.limit))


def lane_changed(step: Step, lane: str) -> None:
    """Forgets a deleted trigger with its last order."""
    world, its_owner = step.world, owner_of(lane)
    kind, _, trigger = its_owner.partition("/")
    if kind == "trigger" and ("trigger", trigger) not in world.objects.stored and not world.lanes.count(its_owner):
        _forget(step, trigger)


def _forget(step: Step, trigger: str) -> None:
    _set_rule(step, trigger, None)
    for lane in step.world.trigger_statuses.lanes(trigger):
        bursts.forget(step, lane)


def dated(stored: StoredObject, before: StoredObject | None) -> StoredObject:
    """Returns a trigger with the times from which its schedule and its settings count: other changes keep both."""
    begun_at = active_at = stored.changed_at
    if before is not None and _times(before.manifest) == _times(stored.manifest):
        begun_at = before.begun_at or before.changed_at
    if before is not None and before.manifest.get("enabled", True) and _settings(before) == _settings(stored):
        active_at = before.active_at or before.changed_at
    return replace(stored, begun_at=begun_at, active_at=active_at)


def _settings(stored: StoredObject) -> tuple[Any, Any]:
    return stored.manifest.get("provider"), stored.manifest.get("with") or {}


def _times(manifest: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """What says when it fires; the rest of `with` says what becomes of a time that was missed, and the like."""
    settings = manifest.get("with") or {}
    return manifest.get("provider"), {name: settings[name] for name in settings if name not in _POLICIES}


def shown(world: World, kind: str, name: str) -> Mapping[str, Any]:
    """Returns when a trigger was due and fired, its open orders, and what is pending."""
    if kind != "trigger":
        return {}
    status = world.trigger_statuses.get(name)
    return {
        "last_due": status.last_due if status is not None else None,
        "last_fired": status.last_fired if status is not None else None,
        "open": world.lanes.count(owner(name)),
        "pending": [
            {"firing": pending.id, "group": pending.group, "until": pending.until}
            for lane in world.trigger_statuses.lanes(name)
            for pending in world.trigger_statuses.of(lane).pending
        ],
    }


def load(world: World, _kind: str, status: TriggerStatus) -> None:
    """Loads the state of a trigger or a lane from the projection."""
    world.trigger_statuses.put(status)


def restore(world: World) -> None:
    """Sets the rules of all triggers: by their manifests, and those that still hold for deleted ones."""
    for name in world.objects.names("trigger"):
        world.lanes.rule(owner(name), _rule_of(world, name))
    for status in world.trigger_statuses:
        if status.max_open is not None:
            world.lanes.rule(owner(status.name), LaneRule(limit=status.max_open))


AGGREGATE: Final = Aggregate(
    name="triggers",
    things={"trigger": TriggerStatus},
    load=load,
    restore=restore,
    handlers={records.Fired: firing.fired},
    completes={"trigger": dated},
    rules={OBJECT: object_changed, LANE: lane_changed},
    shown=shown,
)
