"""Which function each record about an order is: the list of what may happen to one."""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile
from typing import Any, Final

from msgspec.structs import replace

from muster.broker.state import loss, order
from muster.broker.state.order import Refused, Stamp, going_on
from muster.mesh import records
from muster.mesh.model import JobState, Order, OrderState

_WELL_ENDED: Final = frozenset({JobState.FINISHED, JobState.SKIPPED})


def retried(record: records.Retried, _stamp: Stamp) -> Order | Refused:
    """An ended order goes on at its first unfinished task.

    Jobs stand in the order in which they ran, so what ran after the first one that did not end well (`on_failure`
    and `always` of the run that failed) belongs to the past, and may run again.
    """
    ended = record.snapshot
    if ended.id != record.order or ended.state not in {OrderState.FAILED, OrderState.CANCELLED}:
        return Refused(f"only a failed or cancelled order can be retried; it is {ended.state}")
    return going_on(
        replace(
            ended,
            finished_at=None,
            outputs={},
            jobs=tuple(takewhile(lambda job: job.state in _WELL_ENDED, ended.jobs)),
            element=None if ended.pool else ended.element,
            cleans_up=False,
            cancelled="",
            failing="",
            ending_since=None,
            lost_in_row=0,
        )
    )


TRANSITIONS: Final[dict[type[records.OrderRecord], Callable[[Order, Any, Stamp], Order | Refused]]] = {
    records.Due: order.due,
    records.Claimed: order.claimed,
    records.Reported: order.reported,
    records.Suspended: order.suspended,
    records.Done: order.done,
    records.Lost: loss.lost,
    records.GivenUp: loss.given_up,
    records.CancelRequested: order.cancel_requested,
}

BEGINNINGS: Final[dict[type[records.OrderRecord], Callable[[Any, Stamp], Order | Refused]]] = {
    records.Created: order.created,
    records.Retried: retried,
}
