"""From an event to the record of its firing: whether it concerns the trigger, its targets, and their inputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from muster.blueprints.objects.trigger import Trigger
from muster.broker.planning.aims import Aim, aim_of
from muster.broker.planning.blueprints import Blueprints, Pinned, resolve_inputs
from muster.broker.planning.firing_records import (
    Draft,
    Plan,
    firing_record,
    inputs_given,
    pending_record,
    reason_of,
    settling_record,
    trigger_caller,
    writable,
)
from muster.broker.planning.targets import suggestion
from muster.broker.state.element import StoredObject
from muster.broker.state.firing import MAX_CHAIN
from muster.broker.state.trigger_status import Pending
from muster.broker.state.world import World
from muster.mesh import records
from muster.mesh.caller import Caller
from muster.mesh.errors import InvalidError, MusterError, NotFoundError, Problem, RefusedError
from muster.mesh.firing import FireRequest

MAX_AIMS: Final = 10_000
"""Triggers that are kept ready to fire."""

MAX_ORDERS: Final = 10_000
"""Orders of one firing whose trigger has `each`."""

MAX_REASONS: Final = 10
"""Items that are named when some cannot become orders."""


class FiringPlans:
    """Plans firings.  It remembers what it made of each trigger until that, an object or an element changes."""

    def __init__(self, world: World, blueprints: Blueprints) -> None:
        self._world = world
        self._blueprints = blueprints
        self._aims: dict[str, Aim] = {}
        self._plans: dict[str, Plan] = {}
        """Those of triggers whose orders are the same for every event."""

    def trigger(self, name: str) -> tuple[StoredObject, Trigger]:
        """Returns a trigger as it is stored, and its manifest.

        Raises:
            NotFoundError: no such trigger.
        """
        objects = self._world.objects
        stored, manifest = objects.stored.get(("trigger", name)), objects.get("trigger", name)
        if stored is None or not isinstance(manifest, Trigger):
            known = (its_name for kind, its_name in objects.stored if kind == "trigger")
            raise NotFoundError(f"there is no trigger {name!r}{suggestion(name, known)}")
        return stored, manifest

    def aim(self, name: str) -> Aim:
        """Returns the current version of a trigger, compiled.

        Raises:
            NotFoundError: no such trigger, or it is disabled.
        """
        aim = self._aims.get(name)
        if aim is None or aim.trigger is not self._world.objects.get("trigger", name):
            stored, trigger = self.trigger(name)
            if len(self._aims) >= MAX_AIMS:
                self._aims.clear()
                self._plans.clear()
            aim = self._aims[name] = aim_of(trigger, stored.version)
        if not aim.trigger.enabled:
            raise NotFoundError(f"trigger {name!r} is disabled")
        return aim

    def identified(self, aim: Aim, request: FireRequest) -> FireRequest:
        """Returns the request with the key that the trigger's own `id` gives, if it has one and is concerned."""
        if aim.id is None or request.rejected:
            return request
        values = {"event": request.event}
        try:
            if aim.condition is not None and not aim.condition.holds(values):
                return request
            key = aim.id.text_of(values)
            if not key:
                raise InvalidError(f"{aim.id.shown} gives an empty text, which identifies no event")
        except MusterError as error:
            return msgspec.structs.replace(request, rejected=reason_of(error))
        return msgspec.structs.replace(request, key=key)

    def plan(self, aim: Aim, request: FireRequest, ident: str, by: Caller) -> records.Fired | str:
        """Returns the record of a firing, or why the event does not concern the trigger.

        An event that cannot become orders gives a record as well, which says why: it is `rejected`.
        """
        if request.depth > MAX_CHAIN + 1:
            return "it was stopped: triggers set each other off"
        if request.rejected or request.depth > MAX_CHAIN:
            return self.rejected(aim, request, ident, by, request.rejected)
        try:
            return self._wanted(aim, request, ident, by)
        except MusterError as error:
            return self.rejected(aim, request, ident, by, reason_of(error))

    @staticmethod
    def rejected(aim: Aim, request: FireRequest, ident: str, by: Caller, reason: str) -> records.Fired:
        """Returns the record of a firing that makes no orders."""
        kept = msgspec.structs.replace(request, event=writable(request.event), rejected=reason)
        return firing_record(aim, kept, ident, by)

    def settled(self, trigger: str, pending: Pending) -> records.Fired:
        """Returns what a firing whose burst has ended makes now, by the current trigger and elements."""
        request = FireRequest(
            trigger=trigger,
            event=msgspec.json.decode(pending.event),
            key=pending.key,
            due=pending.due,
            depth=pending.depth,
        )
        try:
            aim = self.aim(trigger)
            plan = self._plan(aim, aim.items(request.event))
        except MusterError as error:
            return self.unsettled(trigger, pending, reason_of(error))
        return settling_record(pending, firing_record(aim, request, pending.id, trigger_caller(trigger), plan))

    @staticmethod
    def unsettled(trigger: str, pending: Pending, reason: str) -> records.Fired:
        """Returns the record that ends a pending firing without orders."""
        bare = records.Fired(
            id=pending.id, trigger=trigger, version=pending.version, by=trigger_caller(trigger), depth=pending.depth
        )
        return settling_record(pending, msgspec.structs.replace(bare, rejected=reason))

    def _wanted(self, aim: Aim, request: FireRequest, ident: str, by: Caller) -> records.Fired | str:
        """The record of an event that can become orders; or why it does not concern the trigger.

        Raises:
            MusterError: it cannot become orders.
        """
        if aim.condition is not None and not aim.condition.holds({"event": request.event}):
            return f"`{aim.condition.text.strip()}` does not hold"
        items = aim.items(request.event)
        if not items:
            return f"`{aim.trigger.each}` gives no items"
        plan = self._plan(aim, items)  # also if it waits: its sender should hear at once of what is wrong
        if aim.burst is not None:
            return pending_record(aim, request, ident, by, plan.group)
        return firing_record(aim, request, ident, by, plan)

    def _plan(self, aim: Aim, items: Sequence[Mapping[str, Any]]) -> Plan:
        """The orders that the trigger wants, for each of its items: all of them, or none.

        Raises:
            MusterError: there can be none.
        """
        name, version = aim.trigger.name, self._world.fleet.version
        known = self._plans.get(name)
        if known is not None and known.aim is aim and known.version == version:
            return known
        pinned = self._blueprints.pin(aim.request.blueprint)
        draft, planned, problems = Draft(), Counter[str](), list[Problem]()
        for index, values in enumerate(items):
            try:
                self._plan_item(aim, values, pinned, draft, planned)
            except MusterError as error:
                if aim.each is None:
                    raise
                problems.append(Problem(path=f"item {index}", message=reason_of(error)))
        if problems:
            raise InvalidError(f"{len(problems)} of {len(items)} items cannot become orders", *problems[:MAX_REASONS])
        group = aim.group(items[0]) if aim.each is None else None
        plan = draft.plan(aim, version, pinned, group)
        if aim.is_constant:
            self._plans[name] = plan
        return plan

    def _plan_item(
        self, aim: Aim, values: Mapping[str, Any], pinned: Pinned, draft: Draft, planned: Counter[str]
    ) -> None:
        """Add the orders of one item to the draft.

        Raises:
            MusterError: there can be none.
        """
        given = inputs_given(aim.trigger, pinned.blueprint, values)
        group = aim.group(values) if aim.each is not None else None
        targets = aim.targets(values, self._world, planned)
        if aim.each is not None and len(draft.orders) + len(targets) > MAX_ORDERS:
            raise RefusedError(f"its items make more than {MAX_ORDERS} orders")
        for target in targets:
            draft.add(target, resolve_inputs(self._world, pinned, given, target, "trigger"), group)
