"""What one record changed: what the projection writes, and what the leader must do about it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from muster.broker.state.order import origin
from muster.broker.state.step import Refused, Stamp
from muster.mesh.caller import Caller
from muster.mesh.events import Event
from muster.mesh.firing import Firing
from muster.mesh.model import Job, Order, OrderState


class Changes:
    """Collects what `apply` does.  A record that was refused changes nothing but says why."""

    __slots__ = (
        "_also",
        "_origins",
        "assignments",
        "events",
        "firings",
        "orders",
        "queues",
        "refused",
        "revoked",
        "stamp",
        "things",
        "unclaimed",
    )

    def __init__(self, stamp: Stamp) -> None:
        self.stamp = stamp
        self.orders: dict[str, Order] = {}
        self.things: dict[tuple[str, str], msgspec.Struct | None] = {}
        """By kind and id, everything but orders that the record changed; None for what is gone."""
        self.assignments: set[str] = set()
        """Elements whose agents must know something new."""
        self.queues: set[str] = set()
        """Pools without a name that are used now, or are not any more."""
        self.firings: dict[str, Firing] = {}
        self.revoked: dict[str, Caller] = {}
        """Orders that a record about another object ended, with its caller: their copies can still be claimed."""
        self.unclaimed: list[tuple[str, str]] = []
        """Orders and the elements that take their refused claims for granted."""
        self.events: list[Event] = []
        self.refused: Refused | None = None
        self._origins: dict[str, OrderState | None] = {}
        self._also: list[tuple[str, Order]] = []

    def ids(self, kind: str) -> Iterator[str]:
        """Returns the ids of the things of a kind that the record changed."""
        return (ident for its_kind, ident in self.things if its_kind == kind)

    def event(self, kind: str, subject: str, data: dict[str, Any]) -> None:
        """Reports that something happened."""
        self.events.append(
            Event(
                id=f"{self.stamp.seq}.{len(self.events)}",
                kind=kind,
                subject=subject,
                time=self.stamp.time,
                data=data,
            )
        )

    def moved(self, before: Order | None, after: Order) -> None:
        """Notes that an order's state changed; where that leads to in the end is reported by `conclude`."""
        self._origins.setdefault(after.id, before.state if before is not None else None)

    def also(self, kind: str, order: Order) -> None:
        """Has one more event of an order reported, after those of states."""
        self._also.append((kind, order))

    def conclude(self) -> None:
        """Reports the states that orders have come to: a state that an order only passed is not reported."""
        for ident, origin_state in self._origins.items():
            after = self.orders[ident]
            if origin_state is None:
                self._order_event("order.created", after)
            if origin_state is not after.state and (origin_state is not None or after.state is OrderState.RUNNING):
                self._order_event(f"order.{after.state}", after)
        for kind, order in self._also:
            self._order_event(kind, order)

    def job_events(self, jobs: tuple[Job, ...], before: Order) -> None:
        """Reports jobs.  Short ones are recorded only with the order's end; each change of a job is still one event."""
        known = {job.name: job.state for job in before.jobs}
        for job in jobs:
            if known.get(job.name) is not job.state:
                data = {"order": before.id, "job": job.name, "exit_code": job.exit_code, "error": job.error}
                data |= origin(before) if before.chain else {}
                self.event(f"job.{job.state}", before.id, data)

    def _order_event(self, kind: str, order: Order) -> None:
        data = {
            "blueprint": order.blueprint,
            "element": order.element,
            "pool": order.pool,
            "state": order.state,
            "reason": order.reason,
            "attempt": order.attempt,
        }
        if order.chain:
            data |= origin(order)
        self.event(kind, order.id, data)


class Unreported(Changes):
    """What a record of long ago changed: nobody can read its events any more, so they are not even made."""

    __slots__ = ()

    def event(self, kind: str, subject: str, data: dict[str, Any]) -> None:
        """Does nothing."""

    def job_events(self, jobs: tuple[Job, ...], before: Order) -> None:
        """Does nothing."""

    def conclude(self) -> None:
        """Does nothing."""
