"""A version of a trigger, ready to fire: what it takes from an event, and each order's target."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from muster.blueprints.event_expressions import EventFilter, EventValue
from muster.blueprints.expressions import EventCondition, render
from muster.blueprints.objects.trigger import Trigger
from muster.blueprints.references import mentions
from muster.blueprints.templates import has_template, is_template
from muster.broker.planning.targets import Target, chosen
from muster.broker.state.world import World
from muster.mesh import names
from muster.mesh.errors import InvalidError, Problem
from muster.mesh.model import OrderRequest

MAX_COMPILED: Final = 10_000
"""Expressions that are kept compiled."""

SHOWN: Final = 80
"""Characters of a wrong name in a message."""


class Aim(msgspec.Struct, frozen=True):
    """A version of a trigger, ready to fire."""

    trigger: Trigger
    version: int
    condition: EventCondition | None
    id: EventValue | None
    each: EventValue | None
    key: EventValue | None
    where: EventFilter | None
    """The target's filter, if it names the event."""
    burst: tuple[timedelta, timedelta] | None
    """How long it must be quiet before the last event of a burst makes orders, and the most that may take."""
    request: OrderRequest
    is_constant: bool
    """Whether its orders are the same for every event, until an element or an object changes."""

    def items(self, event: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What expressions and templates may read: once for the event, or for each of its items.

        Raises:
            EvaluationError: `each` gives no list, or too long a one.
        """
        if self.each is None:
            return [{"event": event}]
        found = self.each.items_of({"event": event})
        return [{"event": event, "item": item, "index": index} for index, item in enumerate(found)]

    def group(self, values: Mapping[str, Any]) -> str | None:
        """What `key` gives; None if the trigger has none.

        Raises:
            EvaluationError: it cannot be evaluated.
        """
        return None if self.key is None else self.key.text_of(values)

    def targets(self, values: Mapping[str, Any], world: World, planned: Counter[str]) -> Sequence[Target]:
        """Returns the targets of one item's orders; `planned` counts those that elements get by this very firing.

        Raises:
            MusterError: nobody.
        """
        target, request = self.trigger.target, self.request
        if target.on is not None and is_template(target.on):
            request = replace(request, on=_name(target.on, values, "target.on", "an element"))
        elif target.pool is not None and is_template(target.pool):
            request = replace(request, pool=_name(target.pool, values, "target.pool", "a pool"))
        matching = None if self.where is None else world.fleet.matching_event(self.where, values)
        found = chosen(request, world, matching, planned)
        planned.update(target.element for target in found if target.element is not None)
        return found


def aim_of(trigger: Trigger, version: int) -> Aim:
    """Make a trigger ready to fire."""
    variables, where = trigger.scope.variables, trigger.target.where
    return Aim(
        trigger=trigger,
        version=version,
        condition=_condition(trigger.when) if trigger.when is not None else None,
        id=_value(trigger.id) if trigger.id is not None else None,
        each=_value(trigger.each) if trigger.each is not None else None,
        key=_value(trigger.key, variables) if trigger.key is not None else None,
        where=_filter(where, variables) if where is not None and mentions(where, variables) else None,
        burst=trigger.burst.spans() if trigger.burst is not None else None,
        request=trigger.request(),
        is_constant=_is_constant(trigger),
    )


_condition = lru_cache(maxsize=MAX_COMPILED)(EventCondition)
_value = lru_cache(maxsize=MAX_COMPILED)(EventValue)
_filter = lru_cache(maxsize=MAX_COMPILED)(EventFilter)


def _is_constant(trigger: Trigger) -> bool:
    """Whether no event changes its orders, and no order changes the targets of the next ones."""
    target = trigger.target
    is_fixed = target.where is None or target.queue or target.all
    reads_event = trigger.each is not None or trigger.key is not None or trigger.merge_event
    waits = trigger.debounce is not None
    texts = (target.on, target.pool, *trigger.inputs.values())
    is_filter = target.where is not None and mentions(target.where, trigger.scope.variables)
    return is_fixed and not (reads_event or waits or is_filter) and not any(map(has_template, texts))


def _name(template: str, values: Mapping[str, Any], path: str, what: str) -> str:
    """The name that a template gives."""
    given = render(template, values, path)
    if isinstance(given, str) and names.is_name(given):
        return given
    shown = repr(given[:SHOWN]) if isinstance(given, str) else f"a {type(given).__name__}"
    raise InvalidError("the target is not valid", Problem(path=path, message=f"{shown} is not the name of {what}"))
