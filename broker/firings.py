"""What a broker does with events that triggers received: fire, and say what came of it."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from heapq import nsmallest
from typing import Any, Final

import msgspec
import structlog

from muster.blueprints import provider as providers
from muster.blueprints.objects.trigger import Trigger
from muster.blueprints.provider import Provider, Schedule
from muster.broker.definitions import definition_of
from muster.broker.means import Means
from muster.broker.planning.aims import Aim
from muster.broker.planning.firing_records import trigger_caller, without_event
from muster.broker.planning.firings import FiringPlans
from muster.broker.planning.first import StartDirectly
from muster.broker.state.trigger_status import Pending
from muster.mesh import names, records
from muster.mesh.caller import Caller
from muster.mesh.errors import NotFoundError, RefusedError, TooLargeError, UnavailableError
from muster.mesh.firing import MADE_NOTHING, Definition, DueQuery, DueReply, FireReply, FireRequest, Firing, FiringState
from muster.mesh.jetstream import LostRaceError
from muster.mesh.moment import rfc3339

log = structlog.get_logger()

TAKEN: Final = "another record has its firing's place on the log"
"""Why a firing is made with its next id: what was written there was none, and must not hold the trigger up."""

MAX_ATTEMPTS: Final = 100
"""Firings that one event may make if those before made no orders; from then on it is a duplicate of the last."""


class Firings:
    """The write path of triggers."""

    def __init__(self, means: Means, plans: FiringPlans, start: StartDirectly) -> None:
        self._world, self._log, self._query, self._ids = means
        self._plans, self._start_directly = plans, start
        self.ignored = 0
        """Events that did not concern their trigger."""
        self.duplicates = 0
        """Events that had come before."""

    async def fire(self, request: FireRequest, *, by: Caller | None = None) -> FireReply:
        """Puts a firing on the log, if the event concerns the trigger; it is there when this returns.

        Args:
            request: the event, and the trigger that it met.
            by: who fires; the trigger itself by default, whose keys are its provider's.

        Raises:
            NotFoundError: no such trigger, or it is disabled.
            UnavailableError: the log cannot be reached, or it is not known whether it was.
        """
        aim = self._plans.aim(request.trigger)
        if request.version is not None and request.version != aim.version:
            return FireReply(stale=True)
        request = self._plans.identified(aim, request)
        scope = "" if by is None else by.scope
        by = by or trigger_caller(request.trigger)
        attempt = 0
        while True:
            reply = await self._fired(aim, request, self._ident(request, attempt, scope), by)
            attempt += 1
            may_again = reply.reason == TAKEN or (request.try_again and reply.duplicate and reply.state in MADE_NOTHING)
            if not may_again or attempt >= MAX_ATTEMPTS:
                return reply

    def _ident(self, request: FireRequest, attempt: int, scope: str) -> str:
        """The id of a firing: the same for the same event, and the same attempt at it."""
        return self._ids.firing(request.trigger, request.key, attempt, scope) if request.key else names.new_id()

    async def _fired(self, aim: Aim, request: FireRequest, ident: str, by: Caller) -> FireReply:
        known = self._world.trigger_statuses.get(request.trigger)
        if known is not None and known.last_firing == ident:
            return await self._duplicate(ident)
        planned = self._planned(aim, request, ident, by)
        if isinstance(planned, str):
            self.ignored += 1
            log.debug("firing.ignored", trigger=request.trigger, why=planned)
            return FireReply(ignored=planned)
        try:
            changes = await self._log.append(self._start_directly(planned), expect=0)
        except LostRaceError:
            return await self._duplicate(ident)
        except TooLargeError as error:
            changes = await self._log.append(without_event(planned, request.event, error), expect=0)
        firing = changes.firings.get(ident)
        return await self._duplicate(ident) if firing is None else _reply(firing)

    def _planned(self, aim: Aim, request: FireRequest, ident: str, by: Caller) -> records.Fired | str:
        try:
            return self._plans.plan(aim, request, ident, by)
        except Exception as error:  # noqa: BLE001 - a bug that some event brings to light must not lose the event
            return self._plans.rejected(aim, request, ident, by, _bug(request.trigger, error))

    def settled(self, trigger: str, pending: Pending) -> records.Fired:
        """Returns the second record of a firing whose burst has ended, for the duty that writes it."""
        try:
            record = self._plans.settled(trigger, pending)
        except Exception as error:  # noqa: BLE001 - as above
            return self._plans.unsettled(trigger, pending, _bug(trigger, error))
        if self._log.takes(record):
            return record
        return self._plans.unsettled(trigger, pending, "its orders are more than the log takes")

    async def fire_by_hand(self, trigger: str, body: Any, *, by: Caller, key: str | None = None) -> FireReply:
        """Fires a trigger without its provider; `body` is what the event has as its body."""
        aim = self._plans.aim(trigger)
        now = datetime.now(UTC)
        event = {
            "provider": aim.trigger.provider,
            "kind": "manual",
            "id": key or names.new_id(),
            "time": rfc3339(now),
            "headers": {},
            "body": body,
        }
        with suppress(RefusedError):  # then `when` and templates do without the provider's own fields
            event = _settings(aim.trigger).by_hand(body, now) | event
        return await self.fire(FireRequest(trigger=trigger, event=event, key=key or "", try_again=True), by=by)

    def definition(self, trigger: str) -> Definition:
        """Returns a trigger as trigger services need it.

        Raises:
            NotFoundError: no such trigger.
        """
        return definition_of(*self._plans.trigger(trigger))

    def last_due(self, query: DueQuery) -> DueReply:
        """Returns when schedules were due last, as far as the log has it; a page by name."""
        every = self._world.trigger_statuses
        behind = ((it.name, it.last_due) for it in every if it.last_due is not None and it.name > query.after)
        page = nsmallest(query.limit, behind)
        return DueReply(last=dict(page), next=page[-1][0] if len(page) == query.limit else None)

    def next_due(self, trigger: str, count: int, now: datetime) -> list[dict[str, str]]:
        """Returns when a schedule will be due the next times, in UTC and in the trigger's own time zone.

        Raises:
            NotFoundError: no such trigger.
            RefusedError: it does not go by the clock.
        """
        stored, manifest = self._plans.trigger(trigger)
        schedule = _settings(manifest)
        if not isinstance(schedule, Schedule):
            raise RefusedError(f"trigger {trigger!r} does not go by the clock; its provider is {manifest.provider}")
        times: list[dict[str, str]] = []
        begun = stored.begun_at or stored.changed_at
        due = schedule.following(now, begun)
        while due is not None and len(times) < count:
            local = due.astimezone(schedule.zone()).isoformat()
            times.append({"due": rfc3339(due), "local": local})
            due = schedule.following(due, begun)
        return times

    async def _duplicate(self, ident: str) -> FireReply:
        """What came of a firing that is on the log; another broker may have put it there, and we may lag behind."""
        self.duplicates += 1
        try:
            firing = await self._query.firing(ident)
        except NotFoundError:
            has_read = await self._query.read_up_to(names.order_of(ident, 0))
            try:
                firing = await self._query.firing(ident)
            except NotFoundError:
                if has_read:
                    log.warning("firing.taken", firing=ident)
                    return FireReply(firing=ident, state=FiringState.REJECTED, reason=TAKEN)
                raise UnavailableError("the firing is on the log, but this broker has not read so far") from None
        return msgspec.structs.replace(_reply(firing), duplicate=True)


def _bug(trigger: str, error: Exception) -> str:
    log.error("firing.bug", trigger=trigger, exc_info=error)
    return f"a bug of the broker's: {error!r}"


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


def _reply(firing: Firing) -> FireReply:
    return FireReply(firing=firing.id, state=firing.state, reason=firing.reason, orders=firing.orders)
