"""The record of a firing, made of the orders that its trigger plans."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from muster.blueprints.definition import Blueprint
from muster.blueprints.expressions import render
from muster.blueprints.fit import convert
from muster.blueprints.objects.trigger import Trigger
from muster.blueprints.resolve import Resolved
from muster.broker.planning.aims import Aim
from muster.broker.planning.blueprints import Pinned
from muster.broker.planning.targets import Target
from muster.broker.state.trigger_status import Pending
from muster.mesh import names, records
from muster.mesh.caller import Caller, CallerKind
from muster.mesh.canonical import canonical
from muster.mesh.errors import MusterError, TooLargeError
from muster.mesh.firing import FireRequest

_encode = msgspec.json.Encoder().encode

MAX_REASON: Final = 4000


class PlannedOrder(msgspec.Struct, frozen=True):
    """One order that a trigger wants, without its id."""

    target: Target
    inputs: dict[str, Any] | None
    """If its element makes them others than the firing's."""
    sources: dict[str, str] | None
    group: str | None = None
    """What the trigger's `key` gives for its item."""


class Plan(msgspec.Struct, frozen=True):
    """The orders that a trigger wants."""

    aim: Aim
    version: int
    """The fleet's."""
    pinned: Pinned
    inputs: dict[str, Any]
    sources: dict[str, str]
    orders: tuple[PlannedOrder, ...]
    group: str | None = None
    """What the trigger's `key` gives for the whole event."""


class Draft:
    """A plan that is being made: what its first order's inputs are, others need not say again."""

    def __init__(self) -> None:
        self.orders: list[PlannedOrder] = []
        self._base: Resolved | None = None
        self._said = b""

    def add(self, target: Target, resolved: Resolved, group: str | None) -> None:
        """One more order."""
        base = self._base = self._base or resolved
        if resolved is not base and not self._said:
            self._said = canonical(base)
        if resolved is base or canonical(resolved) == self._said:
            self.orders.append(PlannedOrder(target, None, None, group))
        else:
            self.orders.append(PlannedOrder(target, resolved.inputs, resolved.sources, group))

    def plan(self, aim: Aim, version: int, pinned: Pinned, group: str | None) -> Plan:
        """The plan."""
        inputs, sources = (self._base.inputs, self._base.sources) if self._base else ({}, {})
        return Plan(aim, version, pinned, inputs, sources, tuple(self.orders), group)


def trigger_caller(name: str) -> Caller:
    """Returns the caller of firings that nobody made by hand."""
    return Caller(kind=CallerKind.TRIGGER, name=name)


def firing_record(aim: Aim, request: FireRequest, ident: str, by: Caller, plan: Plan | None = None) -> records.Fired:
    """The record of a firing, with the orders of a plan."""
    bare = records.Fired(
        id=ident,
        trigger=request.trigger,
        version=aim.version,
        by=by,
        event=_raw(request.event),
        key=request.key,
        due=request.due,
        depth=request.depth,
        rejected=request.rejected,
    )
    if plan is None:
        return bare
    return msgspec.structs.replace(
        bare,
        blueprint=plan.pinned.blueprint.name,
        blueprint_version=plan.pinned.version,
        digest=plan.pinned.digest,
        inputs=plan.inputs,
        sources=plan.sources,
        group=plan.group,
        labels=aim.trigger.labels,
        has_on_failure=bool(plan.pinned.blueprint.on_failure),
        has_always=bool(plan.pinned.blueprint.always),
        orders=tuple(
            records.Planned(
                id=names.order_of(ident, place),
                element=order.target.element,
                pool=order.target.pool,
                where=order.target.where,
                inputs=order.inputs,
                sources=order.sources,
                group=order.group,
            )
            for place, order in enumerate(plan.orders)
        ),
    )


def pending_record(aim: Aim, request: FireRequest, ident: str, by: Caller, group: str | None) -> records.Fired:
    """The first record of a firing whose trigger waits until a burst has ended."""
    if aim.burst is None:
        raise AssertionError
    quiet, at_most = (span.total_seconds() for span in aim.burst)
    record = firing_record(aim, request, ident, by)
    return msgspec.structs.replace(record, group=group, quiet=quiet, at_most=at_most)


def settling_record(pending: Pending, record: records.Fired) -> records.Fired:
    """The second record of a firing that was pending: its orders, or why there are none."""
    return msgspec.structs.replace(record, group=pending.group, event=records.NOTHING, settles=True)


def _raw(event: Mapping[str, Any]) -> msgspec.Raw:
    return msgspec.Raw(_encode(event))


def inputs_given(trigger: Trigger, blueprint: Blueprint, values: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs that the trigger gives: its own, and beneath them the event's body if it says so."""
    given: dict[str, Any] = {}
    body = values["event"].get("body") if trigger.merge_event else None
    if isinstance(body, Mapping):
        given = {name: body[name] for name in blueprint.inputs if name in body}
    if trigger.inputs:
        given |= render(trigger.inputs, values, "inputs")
    return {name: convert(blueprint.inputs.get(name, {}), value) for name, value in given.items()}


def reason_of(error: MusterError) -> str:
    """What a rejected firing says."""
    problems = "; ".join(str(problem) for problem in error.problems)
    return f"{error.detail}: {problems}"[:MAX_REASON] if problems else error.detail[:MAX_REASON]


def without_event(planned: records.Fired, event: Mapping[str, Any], error: TooLargeError) -> records.Fired:
    """An event that does not fit in a record is not lost either: what is known of it is kept, with the reason."""
    return records.Fired(
        id=planned.id,
        trigger=planned.trigger,
        version=planned.version,
        by=planned.by,
        event=_raw(dict(_short(event))),
        key=planned.key,
        due=planned.due,
        depth=planned.depth,
        rejected=error.detail,
    )


def writable(event: dict[str, Any]) -> dict[str, Any]:
    """The event, or what is known of it if it cannot be put in a record."""
    try:
        _encode(event)
    except Exception:  # noqa: BLE001 - its rejection says so
        return dict(_short(event))
    return event


def _short(event: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in ("provider", "kind", "id", "time"):
        if isinstance(value := event.get(name), str):
            yield name, value[:1000]
