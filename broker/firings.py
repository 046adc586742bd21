"""A trigger goes off: whether it concerns the trigger, for whom, with which inputs; and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from heapq import nsmallest
from typing import Any, Final

import msgspec
import structlog
from nats.aio.client import Client

from muster.blueprints import provider as providers
from muster.blueprints.objects.trigger import Trigger
from muster.blueprints.provider import Provider, Schedule
from muster.broker.definitions import definition_of
from muster.broker.firing_plan import (
    Aim,
    Plan,
    PlannedOrder,
    aim_of,
    inputs_given,
    reason_of,
    record_of,
    without_event,
    writable,
)
from muster.broker.log import Log
from muster.broker.orders import Orders
from muster.broker.query import Query
from muster.broker.state.element import StoredObject
from muster.broker.state.firing import MAX_CHAIN
from muster.broker.state.machine import State
from muster.broker.targets import chosen, suggestion
from muster.mesh import names, records
from muster.mesh.canonical import canonical
from muster.mesh.errors import MusterError, NotFoundError, RefusedError, TooLargeError, UnavailableError
from muster.mesh.firing import MADE_NOTHING, Definition, DueQuery, DueReply, FireReply, FireRequest, Firing
from muster.mesh.jetstream import LostRaceError
from muster.mesh.moment import rfc3339

log = structlog.get_logger()

BY: Final = "triggers"

MOST_ATTEMPTS: Final = 100
"""Firings that one event may make if those before made no orders; from then on it is a duplicate of the last."""

MOST_AIMS: Final = 10_000
"""Triggers that are kept ready to go off."""


class _Ready(msgspec.Struct, frozen=True):
    """What will go off soon, as it will stand on the log."""

    request: FireRequest
    aim: Aim
    version: int
    """The fleet's."""
    record: records.Fired


class Firings(Orders):
    """The write path of triggers."""

    def __init__(self, client: Client, state: State, log: Log, query: Query) -> None:
        super().__init__(client, state, log, query)
        self._aims: dict[str, Aim] = {}
        self._plans: dict[str, Plan] = {}
        """Those of triggers whose orders are the same for every event."""
        self._ready: dict[str, _Ready] = {}
        """By trigger."""
        self.ignored = 0
        """Events that did not concern their trigger."""
        self.duplicates = 0
        """Events that had come before."""

    async def fire(self, request: FireRequest, *, by: str = BY) -> FireReply:
        """Put a firing on the log, if the event concerns the trigger; it is there when this returns.

        Raises:
            NotFoundError: there is no such trigger, or it is disabled.
            UnavailableError: the log cannot be reached, or it is not known whether it was.
        """
        aim = self._aim(request.trigger)
        if request.version is not None and request.version != aim.version:
            return FireReply(stale=True)
        attempt = 0
        while True:
            reply = await self._fired(aim, request, _ident(request, attempt), by)
            attempt += 1
            may_again = request.try_again and reply.duplicate and reply.state in MADE_NOTHING
            if not may_again or attempt >= MOST_ATTEMPTS:
                return reply

    async def _fired(self, aim: Aim, request: FireRequest, ident: str, by: str) -> FireReply:
        ready = self._made_ready(request, aim)
        standing = self._state.triggers.standing.get(request.trigger)
        if standing is not None and standing.last_firing == ident:
            return await self._duplicate(ident)
        planned = ready or self._planned(aim, request, ident, by)
        if isinstance(planned, str):
            self.ignored += 1
            log.debug("firing.ignored", trigger=request.trigger, why=planned)
            return FireReply(ignored=planned)
        try:
            changes = await self._log.append(self.begun(planned), expect=0)
        except LostRaceError:
            return await self._duplicate(ident)
        except TooLargeError as error:
            changes = await self._log.append(without_event(planned, request.event, error), expect=0)
        firing = changes.firings.get(ident)
        return await self._duplicate(ident) if firing is None else _reply(firing)

    def make_ready(self, request: FireRequest) -> None:
        """It will be fired soon, and in a hurry; what holds until then is done now."""
        try:
            aim = self._aim(request.trigger)
        except NotFoundError:
            return
        if not aim.is_constant or request.version != aim.version:
            return
        planned = self._planned(aim, request, _ident(request), BY)
        if isinstance(planned, records.Fired):
            self._ready[request.trigger] = _Ready(request, aim, self._state.fleet.version, planned)

    def _made_ready(self, request: FireRequest, aim: Aim) -> records.Fired | None:
        ready = self._ready.get(request.trigger)
        if ready is None or ready.request is not request:
            return None
        del self._ready[request.trigger]
        is_valid = ready.aim is aim and ready.version == self._state.fleet.version
        return ready.record if is_valid else None

    async def fire_by_hand(self, trigger: str, body: Any, *, by: str, key: str | None = None) -> FireReply:
        """Let a trigger go off without its provider; `body` is what the event has as its body."""
        aim = self._aim(trigger)
        now = datetime.now(UTC)
        event = {
            "provider": aim.trigger.provider,
            "kind": "manual",
            "id": key or names.new_id(),
            "time": rfc3339(now),
            "headers": {},
            "body": body,
        }
        with suppress(RefusedError):  # then `when` and templates have to do without the provider's own fields
            event = _settings(aim.trigger).by_hand(body, now) | event
        return await self.fire(FireRequest(trigger=trigger, event=event, key=key or "", try_again=True), by=by)

    def definition(self, trigger: str) -> Definition:
        """A trigger as trigger services need it.

        Raises:
            NotFoundError: there is none.
        """
        return definition_of(*self._trigger(trigger))

    def last_due(self, query: DueQuery) -> DueReply:
        """When schedules were due last, as far as the log has it; a page by name."""
        every = self._state.triggers.standing.values()
        behind = (it.name for it in every if it.last_due is not None and it.name > query.after)
        page = nsmallest(query.limit, behind)
        last = {name: due for name in page if (due := self._state.triggers.standing[name].last_due) is not None}
        return DueReply(last=last, next=page[-1] if len(page) == query.limit else None)

    def next_due(self, trigger: str, count: int, now: datetime) -> list[dict[str, str]]:
        """When a schedule will be due the next times, in UTC and in the trigger's own time zone.

        Raises:
            NotFoundError: there is no such trigger.
            RefusedError: it does not go by the clock.
        """
        stored, manifest = self._trigger(trigger)
        schedule = _settings(manifest)
        if not isinstance(schedule, Schedule):
            raise RefusedError(f"trigger {trigger!r} does not go by the clock; its provider is {manifest.provider}")
        told: list[dict[str, str]] = []
        begun = stored.begun_at or stored.changed_at
        due = schedule.following(now, begun)
        while due is not None and len(told) < count:
            local = due.astimezone(schedule.zone()).isoformat()
            told.append({"due": rfc3339(due), "local": local})
            due = schedule.following(due, begun)
        return told

    # -- inside ---------------------------------------------------------------------------------

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

    def _planned(self, aim: Aim, request: FireRequest, ident: str, by: str) -> records.Fired | str:
        """The record; or why the event does not concern the trigger."""
        if request.depth > MAX_CHAIN + 1:
            return "it was stopped: triggers set each other off"
        try:
            if request.rejected or request.depth > MAX_CHAIN:
                return record_of(aim, request, ident, by)
            if aim.condition is not None and not aim.condition.holds({"event": request.event}):
                return f"`{aim.condition.text.strip()}` does not hold"
            return record_of(aim, request, ident, by, self._plan(aim, request.event))
        except MusterError as error:
            rejected = reason_of(error)
        except Exception as error:  # a bug that some event brings to light may not lose the event
            log.exception("firing.bug", trigger=request.trigger)
            rejected = f"a bug of the broker's: {error!r}"
        kept = msgspec.structs.replace(request, event=writable(request.event), rejected=request.rejected or rejected)
        return record_of(aim, kept, ident, by)

    def _plan(self, aim: Aim, event: Mapping[str, Any]) -> Plan:
        """The orders that the trigger wants.

        Raises:
            MusterError: there can be none.
        """
        name, version = aim.trigger.name, self._state.fleet.version
        known = self._plans.get(name)
        if known is not None and known.aim is aim and known.version == version:
            return known
        pinned = self._pin(aim.request.blueprint)
        given = inputs_given(aim.trigger, pinned.blueprint, event)
        orders, base, said = [], None, b""
        for target in chosen(aim.request, self._state):
            resolved = self._inputs(pinned, given, target, "trigger")
            base = base or resolved
            if resolved is base or canonical(resolved) == (said := said or canonical(base)):
                orders.append(PlannedOrder(target, None, None))
            else:
                orders.append(PlannedOrder(target, resolved.inputs, resolved.sources))
        inputs, sources = (base.inputs, base.sources) if base else ({}, {})
        plan = Plan(aim, version, pinned, inputs, sources, tuple(orders))
        if aim.is_constant:
            self._plans[name] = plan
        return plan

    async def _duplicate(self, ident: str) -> FireReply:
        """What came of a firing that is on the log; another broker may have put it there, and we may lag behind."""
        self.duplicates += 1
        try:
            firing = await self._query.firing(ident)
        except NotFoundError:
            await self._read_up_to(names.order_of(ident, 0))
            try:
                firing = await self._query.firing(ident)
            except NotFoundError:
                raise UnavailableError("the firing is on the log, but this broker has not read so far") from None
        return msgspec.structs.replace(_reply(firing), duplicate=True)


def _settings(trigger: Trigger) -> Provider:
    """Its provider, as this broker understands it.

    Raises:
        RefusedError: it does not.
    """
    kind = providers.provider_kinds().get(trigger.provider)
    if kind is None:
        raise RefusedError(f"the provider {trigger.provider} is not installed where this broker runs")
    try:
        return msgspec.convert(trigger.with_, kind)
    except msgspec.ValidationError as error:  # another version of the provider checked it
        raise RefusedError(f"the provider {trigger.provider} does not understand its settings: {error}") from None


def _ident(request: FireRequest, attempt: int = 0) -> str:
    """The id of a firing: the same for the same event, and the same attempt at it."""
    if not request.key:
        return names.new_id()
    again = (f"#{attempt}",) if attempt else ()  # no trigger's name begins so
    return names.digest_id(*again, request.trigger, request.key)


def _reply(firing: Firing) -> FireReply:
    return FireReply(firing=firing.id, state=firing.state, reason=firing.reason, orders=firing.orders)
