"""From an event to the record of its firing: whether it concerns the trigger, for whom, and with which inputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import structlog

from muster.blueprints.objects.trigger import Trigger
from muster.broker.aims import Aim, aim_of
from muster.broker.firing_plan import (
    BY,
    Draft,
    Plan,
    ident_of,
    inputs_given,
    pending_record,
    reason_of,
    record_of,
    settling,
    writable,
)
from muster.broker.means import Means
from muster.broker.orders import Orders, Pinned
from muster.broker.state.element import StoredObject
from muster.broker.state.firing import MAX_CHAIN
from muster.broker.state.standing import Pending
from muster.broker.targets import suggestion
from muster.mesh import records
from muster.mesh.errors import InvalidError, MusterError, NotFoundError, Problem, RefusedError
from muster.mesh.firing import FireRequest

log = structlog.get_logger()

MOST_AIMS: Final = 10_000
"""Triggers that are kept ready to go off."""

MOST_ORDERS: Final = 10_000
"""Orders of one firing whose trigger has `each`."""

MOST_REASONS: Final = 10
"""Items that are named when some cannot become orders."""


class _Ready(msgspec.Struct, frozen=True):
    """What will go off soon, as it will stand on the log."""

    request: FireRequest
    aim: Aim
    version: int
    """The fleet's."""
    record: records.Fired


class Planning(Orders):
    """What triggers make of events."""

    def __init__(self, means: Means) -> None:
        super().__init__(means)
        self._aims: dict[str, Aim] = {}
        self._plans: dict[str, Plan] = {}
        """Those of triggers whose orders are the same for every event."""
        self._ready: dict[str, _Ready] = {}
        """By trigger."""

    def make_ready(self, request: FireRequest) -> None:
        """It will be fired soon, and in a hurry; what holds until then is done now."""
        try:
            aim = self._aim(request.trigger)
        except NotFoundError:
            return
        if not aim.is_constant or request.version != aim.version:
            return
        planned = self._planned(aim, request, ident_of(self._ids, request), BY)
        if isinstance(planned, records.Fired):
            self._ready[request.trigger] = _Ready(request, aim, self._state.fleet.version, planned)

    def _made_ready(self, request: FireRequest, aim: Aim) -> records.Fired | None:
        ready = self._ready.get(request.trigger)
        if ready is None or ready.request is not request:
            return None
        del self._ready[request.trigger]
        is_valid = ready.aim is aim and ready.version == self._state.fleet.version
        return ready.record if is_valid else None

    def _trigger(self, name: str) -> tuple[StoredObject, Trigger]:
        stored = self._state.fleet.stored.get(("trigger", name))
        manifest = self._state.fleet.get("trigger", name)
        if stored is None or not isinstance(manifest, Trigger):
            known = (its_name for kind, its_name in self._state.fleet.stored if kind == "trigger")
            raise NotFoundError(f"there is no trigger {name!r}{suggestion(name, known)}")
        return stored, manifest

    def _aim(self, name: str) -> Aim:
        """The trigger, made ready once a version.

        Raises:
            NotFoundError: there is no such trigger, or it is disabled.
        """
        aim = self._aims.get(name)
        if aim is None or aim.trigger is not self._state.fleet.get("trigger", name):
            stored, trigger = self._trigger(name)
            if len(self._aims) >= MOST_AIMS:
                self._aims.clear()
                self._plans.clear()
                self._ready.clear()
            aim = self._aims[name] = aim_of(trigger, stored.version)
        if not aim.trigger.enabled:
            raise NotFoundError(f"trigger {name!r} is disabled")
        return aim

    def _identified(self, aim: Aim, request: FireRequest) -> FireRequest:
        """The request with the key that the trigger's own `id` gives, if it has one and is concerned."""
        if aim.id is None or request.rejected:
            return request
        values = {"event": request.event}
        try:
            if aim.condition is not None and not aim.condition.holds(values):
                return request
            key = aim.id.text_of(values)
            if not key:
                raise InvalidError(f"{aim.id.told} gives an empty text, which tells no event from another")
        except MusterError as error:
            return msgspec.structs.replace(request, rejected=reason_of(error))
        return msgspec.structs.replace(request, key=key)

    def _planned(self, aim: Aim, request: FireRequest, ident: str, by: str) -> records.Fired | str:
        """The record; or why the event does not concern the trigger."""
        if request.depth > MAX_CHAIN + 1:
            return "it was stopped: triggers set each other off"
        if request.rejected or request.depth > MAX_CHAIN:
            return record_of(aim, msgspec.structs.replace(request, event=writable(request.event)), ident, by)
        try:
            return self._wanted(aim, request, ident, by)
        except Exception as error:  # noqa: BLE001 - a bug that some event brings to light may not lose the event
            rejected = _rejection(request.trigger, error)
        kept = msgspec.structs.replace(request, event=writable(request.event), rejected=rejected)
        return record_of(aim, kept, ident, by)

    def _wanted(self, aim: Aim, request: FireRequest, ident: str, by: str) -> records.Fired | str:
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
        return record_of(aim, request, ident, by, plan)

    def settled(self, trigger: str, pending: Pending) -> records.Fired:
        """What a firing whose burst is over makes now, by the trigger and the elements as they are now."""
        request = FireRequest(
            trigger=trigger,
            event=msgspec.json.decode(pending.event),
            key=pending.key,
            due=pending.due,
            depth=pending.depth,
        )
        bare = records.Fired(id=pending.id, trigger=trigger, version=pending.version, by=BY, depth=pending.depth)
        try:
            aim = self._aim(trigger)
            items = aim.items(request.event)
            record = settling(pending, record_of(aim, request, pending.id, BY, self._plan(aim, items)))
        except Exception as error:  # noqa: BLE001 - as above
            return settling(pending, msgspec.structs.replace(bare, rejected=_rejection(trigger, error)))
        if self._log.takes(record):
            return record
        return settling(pending, msgspec.structs.replace(bare, rejected="its orders are more than the log takes"))

    def _plan(self, aim: Aim, items: Sequence[Mapping[str, Any]]) -> Plan:
        """The orders that the trigger wants, for each of its items: all of them, or none.

        Raises:
            MusterError: there can be none.
        """
        name, version = aim.trigger.name, self._state.fleet.version
        known = self._plans.get(name)
        if known is not None and known.aim is aim and known.version == version:
            return known
        pinned = self._pin(aim.request.blueprint)
        draft, planned, problems = Draft(), Counter[str](), list[Problem]()
        for index, values in enumerate(items):
            try:
                self._plan_item(aim, values, pinned, draft, planned)
            except MusterError as error:
                if aim.each is None:
                    raise
                problems.append(Problem(path=f"item {index}", message=reason_of(error)))
        if problems:
            told = problems if len(problems) <= MOST_REASONS else problems[:MOST_REASONS]
            raise InvalidError(f"{len(problems)} of {len(items)} items cannot become orders", *told)
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
        targets = aim.targets(values, self._state, planned)
        if aim.each is not None and len(draft.orders) + len(targets) > MOST_ORDERS:
            raise RefusedError(f"its items make more than {MOST_ORDERS} orders")
        for target in targets:
            draft.add(target, self._inputs(pinned, given, target, "trigger"), group)


def _rejection(trigger: str, error: Exception) -> str:
    """Why there can be no orders."""
    if isinstance(error, MusterError):
        return reason_of(error)
    log.error("firing.bug", trigger=trigger, exc_info=error)
    return f"a bug of the broker's: {error!r}"
