"""What a record will do if it is the very next one on the log: the same rules, asked before they are applied.

Asked at a sequence, they see every record before it; so if the record gets the next sequence, they were right.
"""

from __future__ import annotations

from datetime import datetime

from msgspec.structs import replace

from muster.broker.state import firing
from muster.broker.state import order as transitions
from muster.broker.state.machine import State
from muster.broker.state.order import Stamp
from muster.broker.state.release import settled
from muster.mesh import names, records
from muster.mesh.model import Order, OrderState


def offered_next(state: State, record: records.Record, now: datetime) -> Order | None:
    """The order that would be offered at once if `record` came next; None if it makes none, or it would wait."""
    stamp = Stamp(state.seq + 1, now, names.BROKER)
    if record.begins_on:
        return None
    if isinstance(record, records.Created):
        order: Order | None = transitions.created(record, stamp)
    elif isinstance(record, records.Fired):
        order = firing.foreseen(state, record, stamp)
    else:
        return None
    if order is None or order.id in state.orders:
        return None
    order = settled(order, state.fleet, state.triggers)
    return replace(order, rev=stamp.seq) if order.state is OrderState.OFFERED else None
