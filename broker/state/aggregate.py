"""What an aggregate is: the structs, handlers and rules of one noun, registered by entry point.

`apply` knows nothing but these tables.  An aggregate of an installed package (entry point group `muster.state`) takes
part like our own: its things are stored, loaded and shown, and its rules process what changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

import msgspec

from muster.broker.state.element import StoredObject
from muster.broker.state.step import Refused, Step
from muster.mesh.records import Record

if TYPE_CHECKING:
    from muster.broker.state.world import World

Handler = Callable[[Step, Any], Refused | None]
"""What one type of record does.  It changes nothing, and says why; or it changes things, and puts keys on the list."""

Rule = Callable[[Step, str], None]
"""What follows when something has changed; the text is the key's id."""


def _nothing(_world: World, _kind: str, _name: str) -> Iterable[str]:
    return ()


def _no_fields(_world: World, _kind: str, _name: str) -> Mapping[str, Any]:
    return {}


class Aggregate(msgspec.Struct, frozen=True, kw_only=True):
    """One noun of the state."""

    name: str
    things: Mapping[str, type[msgspec.Struct]] = {}
    """By kind, the structs that it keeps; each has an id of its own among its kind."""
    load: Callable[[World, str, Any], None] | None = None
    """Takes one of its things (kind, struct) that a projection kept; None: it is put into `World.things`."""
    restore: Callable[[World], None] | None = None
    """Works out what it does not keep, once all things and orders are loaded."""
    handlers: Mapping[type[Record], Handler] = {}
    completes: Mapping[str, Callable[[StoredObject, StoredObject | None], StoredObject]] = {}
    """By kind of object: completes an applied object from its previous version."""
    rules: Mapping[str, Rule] = {}
    """By topic.  An object that was applied or deleted is a key of the topic `object`: `KIND/NAME`."""
    why_kept: Callable[[World, str, str], Iterable[str]] = _nothing
    """Why an object (kind, name) must not be deleted: the reasons of this aggregate."""
    shown: Callable[[World, str, str], Mapping[str, Any]] = _no_fields
    """What is shown of an object (kind, name) beside its manifest."""


@cache
def aggregates() -> tuple[Aggregate, ...]:
    """All that are installed, by name, so that every broker runs their rules in the same order."""
    return tuple(sorted((point.load() for point in entry_points(group="muster.state")), key=lambda it: str(it.name)))


@cache
def handlers() -> Mapping[type[Record], Handler]:
    """Returns what each type of record does.

    Raises:
        TypeError: two aggregates register one type: an installed package must not replace what ours does.
    """
    found: dict[type[Record], Handler] = {}
    for aggregate in aggregates():
        if twice := found.keys() & aggregate.handlers.keys():
            raise TypeError(f"aggregate {aggregate.name} registers {', '.join(it.__name__ for it in twice)} once more")
        found |= aggregate.handlers
    return found


@cache
def rules() -> Mapping[str, tuple[Rule, ...]]:
    """By topic, the rules of all aggregates."""
    found: dict[str, tuple[Rule, ...]] = {}
    for aggregate in aggregates():
        for topic, rule in aggregate.rules.items():
            found[topic] = (*found.get(topic, ()), rule)
    return found
