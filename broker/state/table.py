"""The states of an order as data: what each means, how in, how out, and what a crash does to it.

The drawing in docs, the console's words and the property test are made from this table.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from muster.mesh.model import OrderState


class Place(StrEnum):
    """What an open order is to its element or pool, for the indexes."""

    QUEUED = "queued"
    OFFERED = "offered"
    HELD = "held"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One state's story."""

    meaning: str
    leads_to: frozenset[OrderState]
    entered_by: str
    crash: str
    """What happens to an order in this state when a process dies."""
    is_admitted: bool = False
    """Whether it counts in its lanes; one that is cancelled does so only if it has started."""
    has_rules: bool = False
    """Whether it may leave this state without a record of its own: what it waits for has changed."""
    place: Place | None = None
    """How the indexes over open orders have it."""


_S = OrderState

TABLE: Final[dict[OrderState, Row]] = {
    _S.QUEUED: Row(
        meaning="accepted; waits for the reason given",
        leads_to=frozenset({_S.OFFERED, _S.FAILED, _S.CANCELLED, _S.CANCELLING}),
        entered_by="Created; Fired; Due; Lost; Retried; its children's end; CancelRequested, if `always` is due",
        crash="nothing: it is on the log, and any broker releases it when it may go",
        has_rules=True,
        place=Place.QUEUED,
    ),
    _S.OFFERED: Row(
        meaning="released to its element or pool; the next free one claims it",
        leads_to=frozenset({_S.RUNNING, _S.FAILED, _S.CANCELLED, _S.CANCELLING, _S.QUEUED}),
        entered_by="the state machine, as soon as nothing is in the way",
        crash="the leader publishes it again; the claim's compare-and-set lets only one copy run",
        is_admitted=True,
        place=Place.OFFERED,
    ),
    _S.RUNNING: Row(
        meaning="an element runs its tasks",
        leads_to=frozenset({_S.FINISHED, _S.FAILED, _S.CANCELLING, _S.SUSPENDED, _S.QUEUED}),
        entered_by="Claimed; Created or Fired, if it names the agent",
        crash="broker, server: nothing; agent: its lease runs out, Lost is written, the next attempt resumes; "
        "after three in a row without a job that ended it fails, once its clean-up has run",
        is_admitted=True,
        place=Place.HELD,
    ),
    _S.SUSPENDED: Row(
        meaning="waits for a time or for its child orders, without holding a slot",
        leads_to=frozenset({_S.QUEUED, _S.CANCELLED, _S.CANCELLING}),
        entered_by="Suspended",
        crash="nothing: what it waits for is on the log",
        is_admitted=True,
        has_rules=True,
    ),
    _S.CANCELLING: Row(
        meaning="received a request to stop, and has not stopped yet",
        leads_to=frozenset({_S.CANCELLED, _S.FINISHED, _S.FAILED, _S.QUEUED}),
        entered_by="CancelRequested while it runs or has open children; Claimed, if only its `always` is to run",
        crash="agent: Lost lets `always` run on the same element, then it ends as cancelled",
        has_rules=True,
        place=Place.HELD,
    ),
    _S.FINISHED: Row(meaning="ended successfully", leads_to=frozenset(), entered_by="Done", crash="nothing"),
    _S.FAILED: Row(
        meaning="ended with an error; `reason` has it",
        leads_to=frozenset({_S.QUEUED}),
        entered_by="Done; Lost, if a task that must not run twice was running, or for the third time; GivenUp",
        crash="nothing",
    ),
    _S.CANCELLED: Row(
        meaning="was cancelled",
        leads_to=frozenset({_S.QUEUED}),
        entered_by="CancelRequested, or Done after it",
        crash="nothing",
    ),
}
