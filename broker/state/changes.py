"""What one record changed: what the projection writes, and what the leader must do about it."""

from __future__ import annotations

from typing import Any

from muster.broker.state.element import Element, StoredObject
from muster.broker.state.order import Refused, Stamp, origin
from muster.broker.state.standing import Standing
from muster.mesh.events import Event
from muster.mesh.firing import Firing
from muster.mesh.model import Job, Order


class Changes:
    """Collects what `State.apply` does.  A record that was refused changes nothing but says why."""

    __slots__ = (
        "assignments",
        "deleted",
        "elements",
        "events",
        "firings",
        "objects",
        "orders",
        "queues",
        "refused",
        "revoked",
        "stamp",
        "standings",
        "unclaimed",
    )

    def __init__(self, stamp: Stamp) -> None:
        self.stamp = stamp
        self.orders: dict[str, Order] = {}
        self.elements: dict[str, Element | None] = {}
        """Elements as they stand now; None for one that was deleted."""
        self.objects: list[StoredObject] = []
        """Objects as they are now; of a deleted one, what is remembered."""
        self.deleted: list[tuple[str, str]] = []
        self.assignments: set[str] = set()
        """Elements whose agents must be told something new."""
        self.queues: set[str] = set()
        """Pools without a name that are used now, or are not any more."""
        self.firings: dict[str, Firing] = {}
        self.standings: dict[str, Standing | None] = {}
        """Triggers as they stand now; None for one that does not any more."""
        self.revoked: dict[str, str] = {}
        """Orders that ended by a record which is not about them, and by whom: their copies can still be claimed."""
        self.unclaimed: list[tuple[str, str]] = []
        """Orders and the elements that take their refused claims for granted."""
        self.events: list[Event] = []
        self.refused: Refused | None = None

    def event(self, kind: str, subject: str, data: dict[str, Any]) -> None:
        """Tell that something happened."""
        self.events.append(
            Event(
                id=f"{self.stamp.seq}.{len(self.events)}",
                kind=kind,
                subject=subject,
                time=self.stamp.time,
                data=data,
            )
        )

    def order_event(self, kind: str, order: Order) -> None:
        """Tell that something happened to an order."""
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

    def job_events(self, jobs: tuple[Job, ...], before: Order) -> None:
        """Short jobs are told of only with the order's end; each change of a job is still one event."""
        known = {job.name: job.state for job in before.jobs}
        for job in jobs:
            if known.get(job.name) is not job.state:
                data = {"order": before.id, "job": job.name, "exit_code": job.exit_code, "error": job.error}
                data |= origin(before) if before.chain else {}
                self.event(f"job.{job.state}", before.id, data)


class Untold(Changes):
    """What a record of long ago changed: its events are past what is kept, so they are not even made."""

    __slots__ = ()

    def event(self, kind: str, subject: str, data: dict[str, Any]) -> None:
        """Nothing."""

    def order_event(self, kind: str, order: Order) -> None:
        """Nothing."""

    def job_events(self, jobs: tuple[Job, ...], before: Order) -> None:
        """Nothing."""
