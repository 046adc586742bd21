"""`kind: trigger`: what turns an event into work orders."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Any, Literal

import msgspec

from muster.blueprints.definition import duration
from muster.blueprints.objects.base import Manifest, ObjectKind
from muster.blueprints.references import EVENT_SCOPE, ITEM_SCOPE, Scope
from muster.blueprints.trigger_checks import check_trigger
from muster.mesh.model import OrderRequest
from muster.mesh.structs import Wire


class TriggerTarget(Wire, omit_defaults=True):
    """The target of the orders: exactly one of `on`, `where` and `pool`."""

    on: str | None = None
    """One element; its name may be a template over the event."""
    where: str | None = None
    """A filter (CEL over `element`, and `event`): the first element that matches."""
    count: Annotated[int, msgspec.Meta(ge=1, le=100_000)] | None = None
    """With `where`: so many of those that match."""
    all: bool = False
    """With `where`: every one that matches."""
    queue: bool = False
    """With `where`: one order, for whichever element that matches is free first, now or later."""
    pool: str | None = None
    """The same for a pool that has a name, which may be a template over the event."""


class Debounce(Wire, omit_defaults=True):
    """When the last event of a burst makes its orders."""

    quiet: str
    """How long there must be no other: `10s`."""
    at_most: str | None = None
    """How long after the burst's first event at the latest; ten times `quiet` unless said."""

    def spans(self) -> tuple[timedelta, timedelta]:
        """Both as time spans.

        Raises:
            ValueError: one of them is not a duration.
        """
        quiet = duration(self.quiet)
        return quiet, quiet * 10 if self.at_most is None else duration(self.at_most)


class Trigger(Manifest, kw_only=True, rename={"with_": "with"}):
    """Provider, settings, target and blueprint."""

    kind: Literal["trigger"] = "trigger"
    provider: str
    """Where its events come from: an entry point of `muster.triggers`."""
    with_: dict[str, Any] = {}
    """The provider's own fields."""
    when: str | None = None
    """A condition (CEL over `event`); an event for which it does not hold is ignored."""
    id: str | None = None
    """What identifies an event, so that a duplicate is ignored (CEL over `event`); its provider has a default."""
    each: str | None = None
    """A list (CEL over `event`), for each `item` of which there are orders; all of one firing."""
    key: str | None = None
    """What `cooldown`, `max_open` and `debounce` count by (CEL over `event`, and `item`)."""
    blueprint: str
    target: TriggerTarget
    inputs: dict[str, Any] = {}
    """For the orders; text in them is a template (Jinja2 over `event`, and `item`)."""
    merge_event: bool = False
    """Whether fields of the event's body become the inputs of their name, where `inputs` does not say them."""
    enabled: bool = True
    max_open: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None
    """How many of its orders may be under way at a time."""
    on_overlap: Literal["queue", "skip", "replace"] = "queue"
    """What becomes of a firing beyond `max_open`: its orders wait, it makes none, or open ones are cancelled for it."""
    cooldown: str | None = None
    """How long after a firing further ones make no orders: `30s`."""
    debounce: str | Debounce | None = None
    """Of a burst only the last event makes orders, once it was quiet for as long as this: `10s`."""

    @property
    def burst(self) -> Debounce | None:
        """`debounce` in its long form."""
        return Debounce(quiet=self.debounce) if isinstance(self.debounce, str) else self.debounce

    @property
    def scope(self) -> Scope:
        """What its target, inputs and key may read."""
        return EVENT_SCOPE if self.each is None else ITEM_SCOPE

    def request(self) -> OrderRequest:
        """Returns the orders that it asks for, without their inputs."""
        chosen = self.target
        return OrderRequest(
            blueprint=self.blueprint,
            on=chosen.on,
            pool=chosen.pool,
            where=chosen.where,
            count=chosen.count,
            all=chosen.all,
            queue=chosen.queue,
            labels=self.labels,
        )


def uses(manifest: Trigger) -> Iterator[str]:
    """Yields the blueprint of its orders."""
    yield f"blueprint/{manifest.blueprint}"


TRIGGER = ObjectKind(kind="trigger", manifest=Trigger, check=check_trigger, uses=uses)
