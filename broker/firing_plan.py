"""What a trigger wants of an event: the orders it plans, and the record of its firing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

import msgspec

from muster.blueprints.definition import Blueprint
from muster.blueprints.expressions import EventCondition, render
from muster.blueprints.fit import convert
from muster.blueprints.objects.trigger import Trigger
from muster.blueprints.templates import has_template
from muster.broker.orders import Pinned
from muster.broker.targets import Target
from muster.mesh import names, records
from muster.mesh.errors import MusterError, TooLargeError
from muster.mesh.firing import FireRequest
from muster.mesh.model import OrderRequest

_encode = msgspec.json.Encoder().encode

MOST_CONDITIONS: Final = 10_000
"""Conditions that are kept compiled."""

LONGEST_REASON: Final = 4000


class Aim(msgspec.Struct, frozen=True):
    """A version of a trigger, ready to go off."""

    trigger: Trigger
    version: int
    condition: EventCondition | None
    request: OrderRequest
    is_constant: bool
    """Whether its orders are the same for every event, until an element or an object changes."""


class PlannedOrder(msgspec.Struct, frozen=True):
    """One order that a trigger wants, but for its id."""

    target: Target
    inputs: dict[str, Any] | None
    """If its element makes them others than the firing's."""
    sources: dict[str, str] | None


class Plan(msgspec.Struct, frozen=True):
    """The orders that a trigger wants."""

    aim: Aim
    version: int
    """The fleet's."""
    pinned: Pinned
    inputs: dict[str, Any]
    sources: dict[str, str]
    orders: tuple[PlannedOrder, ...]


def aim_of(trigger: Trigger, version: int) -> Aim:
    """Make a trigger ready to go off."""
    condition = _condition(trigger.when) if trigger.when is not None else None
    return Aim(trigger, version, condition, trigger.request(), _is_constant(trigger))


@lru_cache(maxsize=MOST_CONDITIONS)
def _condition(text: str) -> EventCondition:
    return EventCondition(text)


def record_of(aim: Aim, request: FireRequest, ident: str, by: str, plan: Plan | None = None) -> records.Fired:
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
            )
            for place, order in enumerate(plan.orders)
        ),
    )


def _is_constant(trigger: Trigger) -> bool:
    """Whether no event changes its orders, and no order changes whom the next ones are for."""
    target = trigger.target
    is_fixed = target.where is None or target.queue or target.all
    return is_fixed and not trigger.merge_event and not any(map(has_template, trigger.inputs.values()))


def _raw(event: Mapping[str, Any]) -> msgspec.Raw:
    return msgspec.Raw(_encode(event))


def inputs_given(trigger: Trigger, blueprint: Blueprint, event: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs that the trigger gives: its own, and beneath them the event's body if it says so."""
    given: dict[str, Any] = {}
    body = event.get("body") if trigger.merge_event else None
    if isinstance(body, Mapping):
        given = {name: body[name] for name in blueprint.inputs if name in body}
    if trigger.inputs:
        given |= render(trigger.inputs, {"event": event}, "inputs")
    return {name: convert(blueprint.inputs.get(name, {}), value) for name, value in given.items()}


def reason_of(error: MusterError) -> str:
    """What a rejected firing says."""
    problems = "; ".join(str(problem) for problem in error.problems)
    return f"{error.detail}: {problems}"[:LONGEST_REASON] if problems else error.detail[:LONGEST_REASON]


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
    except Exception:  # noqa: BLE001 - it was told
        return dict(_short(event))
    return event


def _short(event: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in ("provider", "kind", "id", "time"):
        if isinstance(value := event.get(name), str):
            yield name, value[:1000]
