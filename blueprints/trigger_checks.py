"""What is checked on a trigger when it is applied."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import msgspec

from muster.blueprints import provider as providers
from muster.blueprints.definition import Blueprint, duration
from muster.blueprints.event_expressions import check_event_filter, check_value
from muster.blueprints.event_fields import event_field_problems
from muster.blueprints.expressions import check_condition, check_filter, check_template
from muster.blueprints.objects.base import Catalog
from muster.blueprints.objects.element_checks import check_reference
from muster.blueprints.paths import join
from muster.blueprints.references import EVENT_SCOPE, Scope, mentions
from muster.blueprints.schemas import schema_problems
from muster.blueprints.secret_fields import secret_problems
from muster.blueprints.strict import build
from muster.blueprints.suggest import did_you_mean
from muster.blueprints.templates import has_template, is_template
from muster.mesh.errors import Problem

if TYPE_CHECKING:
    from muster.blueprints.objects.trigger import Trigger, TriggerTarget

SHORTEST_QUIET: Final = timedelta(milliseconds=100)
LONGEST_BURST: Final = timedelta(days=1)


def check_trigger(trigger: Trigger, catalog: Catalog) -> Iterator[Problem]:
    """Everything beyond types."""
    yield from _check_provider(trigger)
    if trigger.when is not None:
        yield from check_condition(trigger.when, "when", EVENT_SCOPE)
    yield from _check_values(trigger)
    yield from _check_target(trigger.target, catalog, trigger.scope)
    yield from check_template(trigger.inputs, "inputs", trigger.scope)
    yield from _check_blueprint(trigger, catalog)
    if trigger.on_overlap != "queue" and trigger.max_open is None:
        yield Problem(path="on_overlap", message="it says nothing without max_open", hint="say max_open too")
    yield from _check_cooldown(trigger.cooldown)
    yield from _check_debounce(trigger)


def _check_provider(trigger: Trigger) -> Iterator[Problem]:
    kinds = providers.provider_kinds()
    kind = kinds.get(trigger.provider)
    if kind is None:
        message = f"there is no provider {trigger.provider!r}"
        yield Problem(path="provider", message=message, hint=did_you_mean(trigger.provider, kinds))
        return
    in_clear = list(secret_problems(kind, trigger.with_))
    yield from in_clear
    reported = {problem.path for problem in in_clear}
    settings, faults = build(kind, trigger.with_)
    for fault in faults:
        path = join("with", *fault.path)
        if not any(path.startswith(place) for place in reported):  # its message would show the secret
            yield Problem(path=path, message=fault.message, hint=fault.hint)
    if settings is not None:
        for problem in settings.problems():
            inner = problem.path if problem.path.startswith("[") else f".{problem.path}" if problem.path else ""
            yield msgspec.structs.replace(problem, path=f"with{inner}")
        yield from event_field_problems(trigger, settings)


def _check_values(trigger: Trigger) -> Iterator[Problem]:
    """What is taken from the event."""
    event = EVENT_SCOPE.variables
    if trigger.id is not None:
        yield from check_value(trigger.id, "id", event, "text")
        kind = providers.provider_kinds().get(trigger.provider)
        if kind is not None and issubclass(kind, providers.Schedule):
            yield Problem(path="id", message="a schedule identifies its times itself", hint="leave it out")
    if trigger.each is not None:
        yield from check_value(trigger.each, "each", event, "a list")
    if trigger.key is not None:
        yield from check_value(trigger.key, "key", trigger.scope.variables, "text")
        if trigger.cooldown is None and trigger.max_open is None and trigger.debounce is None:
            hint = "set cooldown, max_open or debounce too"
            yield Problem(path="key", message="nothing counts by it", hint=hint)


def _check_target(target: TriggerTarget, catalog: Catalog, scope: Scope) -> Iterator[Problem]:
    ways = [way for way in ("on", "where", "pool") if getattr(target, way) is not None]
    if len(ways) != 1:
        said = f"; got {' and '.join(ways)}" if ways else ""
        message = f"say exactly one of on (an element), where (a filter) and pool{said}"
        yield Problem(path="target", message=message)
    amounts = [name for name in ("count", "all", "queue") if getattr(target, name)]
    if len(amounts) > 1:
        yield Problem(path=f"target.{amounts[1]}", message=f"say at most one of {' and '.join(amounts)}")
    if amounts and target.where is None:
        yield Problem(path=f"target.{amounts[0]}", message=f"{amounts[0]} goes with where")
    if target.where is not None:
        yield from _check_where(target, target.where, scope)
    yield from check_template(target.on, "target.on", scope)
    yield from check_template(target.pool, "target.pool", scope)
    if target.on is not None and not is_template(target.on):
        yield from check_reference(target.on, "target.on", catalog)
    if target.pool is not None and not is_template(target.pool) and catalog.get("pool", target.pool) is None:
        known = [pool.name for pool in catalog.all("pool")]
        message = f"there is no pool {target.pool!r}"
        yield Problem(path="target.pool", message=message, hint=did_you_mean(target.pool, known))


def _check_where(target: TriggerTarget, where: str, scope: Scope) -> Iterator[Problem]:
    if not mentions(where, scope.variables):
        yield from check_filter(where, "target.where")
        return
    yield from check_event_filter(where, "target.where", scope.variables)
    if target.queue:  # brokers ask such a filter again for each element that joins, long after the event
        message = "with queue, the filter cannot read the event: it is evaluated again when elements join or change"
        hint = 'let the event choose a pool by its name: pool: "{{ event.body.pool }}"'
        yield Problem(path="target.where", message=message, hint=hint)


def _check_blueprint(trigger: Trigger, catalog: Catalog) -> Iterator[Problem]:
    blueprint = catalog.get("blueprint", trigger.blueprint)
    if not isinstance(blueprint, Blueprint):
        known = [other.name for other in catalog.all("blueprint")]
        message = f"there is no blueprint {trigger.blueprint!r}"
        yield Problem(path="blueprint", message=message, hint=did_you_mean(trigger.blueprint, known))
        return
    for name, value in trigger.inputs.items():
        path = join("inputs", name)
        if name not in blueprint.inputs:
            hint = did_you_mean(name, blueprint.inputs) or "the blueprint declares no inputs"
            yield Problem(path=path, message=f"blueprint {blueprint.name!r} has no input {name!r}", hint=hint)
        elif not has_template(value):
            yield from schema_problems(blueprint.inputs[name], value, path)


def _check_cooldown(text: str | None) -> Iterable[Problem]:
    if text is None:
        return
    try:
        span = duration(text)
    except ValueError as error:
        yield Problem(path="cooldown", message=str(error))
        return
    if span == timedelta(0):
        yield Problem(path="cooldown", message="it must be longer than nothing")


def _check_debounce(trigger: Trigger) -> Iterable[Problem]:
    burst = trigger.burst
    if burst is None:
        return
    try:
        quiet, at_most = burst.spans()
    except ValueError as error:
        yield Problem(path="debounce", message=str(error))
        return
    if not SHORTEST_QUIET <= quiet <= LONGEST_BURST:
        yield Problem(path="debounce", message="the quiet must last between 100ms and 1d")
    elif not quiet <= at_most <= LONGEST_BURST:
        hint = f"set at_most between {burst.quiet} and 1d" if burst.at_most is not None else "set at_most too: 1d"
        yield Problem(path="debounce", message="at_most must be between quiet and 1d", hint=hint)
    if trigger.key is not None and mentions(trigger.key, ("item", "index")):
        message = "with debounce, the key must not read the item: an event waits as a whole"
        yield Problem(path="key", message=message, hint="take the key from event")
