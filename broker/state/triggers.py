"""What becomes of a trigger's orders when the trigger changes, is deleted, or has room for more of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from muster.blueprints.objects.trigger import Trigger
from muster.blueprints.provider import Schedule
from muster.broker.state import bursts
from muster.broker.state.element import StoredObject
from muster.broker.state.standing import Standing, trigger_of

if TYPE_CHECKING:
    from muster.broker.state.changes import Changes
    from muster.broker.state.machine import State

_POLICIES: Final = frozenset(Schedule.__struct_encode_fields__)


def heed(state: State, trigger: str) -> None:
    """From now on its manifest says how many of its orders may be under way."""
    manifest = state.fleet.get("trigger", trigger)
    state.triggers.limit(trigger, manifest.max_open if isinstance(manifest, Trigger) else None)


def dated(stored: StoredObject, before: StoredObject | None) -> StoredObject:
    """A trigger, and from when its schedule and its settings count: a change of anything else keeps both."""
    begun_at = active_at = stored.changed_at
    if before is not None and _times(before.manifest) == _times(stored.manifest):
        begun_at = before.begun_at or before.changed_at
    if before is not None and before.manifest.get("enabled", True) and _settings(before) == _settings(stored):
        active_at = before.active_at or before.changed_at
    return replace(stored, begun_at=begun_at, active_at=active_at)


def _settings(stored: StoredObject) -> tuple[Any, Any]:
    return stored.manifest.get("provider"), stored.manifest.get("with") or {}


def applied(state: State, trigger: str, changes: Changes) -> None:
    """It is new, or changed; of one that was deleted before, nothing is left."""
    standing = state.triggers.standings.get(trigger)
    if standing is not None and standing.max_open is not None:
        _forget(state, trigger, changes)
    heed(state, trigger)
    manifest = state.fleet.get("trigger", trigger)
    if isinstance(manifest, Trigger) and (manifest.cooldown is None or manifest.key is None):
        bursts.forget_cooldowns(state, trigger, changes)


def deleted(state: State, trigger: str, changes: Changes) -> None:
    """It is gone; what its open orders have to heed still holds until they are through."""
    most = state.triggers.limits.get(trigger)
    bursts.dropped(state, trigger, changes)
    _forget(state, trigger, changes)
    if most is not None and state.triggers.count(trigger):
        bursts.keep(state, Standing(name=trigger, max_open=most), changes)
        state.triggers.limit(trigger, most)


def let_in(state: State, changes: Changes) -> None:
    """Release orders that waited for others of their trigger, as far as there is room."""
    while state.triggers.touched:
        lane, _ = state.triggers.touched.popitem()
        while (ident := state.triggers.next_in(lane)) is not None:
            state.change(state.orders[ident], state.orders[ident], changes)
        trigger = trigger_of(lane)
        if ("trigger", trigger) not in state.fleet.stored and not state.triggers.count(trigger):
            _forget(state, trigger, changes)
            for gone in [it for it in state.triggers.touched if trigger_of(it) == trigger]:
                del state.triggers.touched[gone]


def _forget(state: State, trigger: str, changes: Changes) -> None:
    state.triggers.limit(trigger, None)
    for lane in state.triggers.standings.lanes(trigger):
        bursts.forget(state, lane, changes)


def _times(manifest: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """What says when it fires; the rest of `with` says what becomes of a time that was missed, and the like."""
    settings = manifest.get("with") or {}
    return manifest.get("provider"), {name: settings[name] for name in settings if name not in _POLICIES}
