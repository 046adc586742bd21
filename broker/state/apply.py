"""`apply`, the one way to change the world: decode a record, run its handler, work off what follows from it."""

from __future__ import annotations

from datetime import datetime

from muster.broker.state.aggregate import handlers, rules
from muster.broker.state.changes import Changes, Unreported
from muster.broker.state.step import Refused, Stamp, Step
from muster.broker.state.topics import SUBJECT
from muster.broker.state.world import World
from muster.mesh import records


def apply(world: World, seq: int, time: datetime, subject: str, data: bytes) -> Changes:
    """Applies one message of the log.

    Pure: the same messages make the same world on every broker.  A refused record leaves the world unchanged,
    except for the sequence that a claim of its order is compared with; `Changes.refused` has the reason.
    """
    world.seq, world.time = seq, time
    record, place = records.decode(subject, data)
    stamp = Stamp(seq, time, place.actor if place else "")
    changes = Changes(stamp) if seq > world.reports_after else Unreported(stamp)
    step = Step(world, changes)
    if isinstance(record, str):
        world.refused += 1
        changes.refused = Refused(record)
        changes.event("record.refused", subject.rpartition(".")[2], {"subject": subject, "reason": record})
    else:
        changes.refused = handlers()[type(record)](step, record)
    if changes.refused is not None and place is not None and place.kind == "order":
        step.enqueue(SUBJECT, place.ident)
    work_off(step)
    changes.conclude()
    return changes


def work_off(step: Step) -> None:
    """Processes the worklist, and what that changes, until it is empty."""
    world, of_topic = step.world, rules()
    for key in step.worklist():
        for rule in of_topic.get(key.topic, ()):
            rule(step, key.id)
        for order in world.held.queued_for(key):
            step.enqueue_order(order)
