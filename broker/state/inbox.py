"""What came in on the inbox: messages that could not be used, and events that somebody announced."""

from __future__ import annotations

from typing import Final

from muster.broker.state.aggregate import Aggregate
from muster.broker.state.step import Step
from muster.mesh import records


def rejected(step: Step, record: records.Rejected) -> None:
    """Reports a message that could not be used."""
    data = {"subject": record.subject, "reason": record.reason, "body": record.body}
    step.changes.event("inbox.rejected", record.id, data)


def announced(step: Step, record: records.Announced) -> None:
    """Reports an event of somebody's own."""
    step.changes.event("inbox.event", record.name, {"name": record.name, "body": record.body})


AGGREGATE: Final = Aggregate(name="inbox", handlers={records.Rejected: rejected, records.Announced: announced})
