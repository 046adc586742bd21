"""An order on this agent: one object, one state, and one table of what each message does to it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final, NamedTuple

from muster.agent.attempt import Attempt, Why
from muster.agent.lease import Delivery
from muster.agent.slots import Slots
from muster.agent.start import is_direct, rev
from muster.mesh.messages import Packet


class State(Enum):
    """The state of an order on this agent."""

    ABSENT = auto()
    """It is not here."""
    CANCELLED = auto()
    """It is not here, and was cancelled: its first record may still be on the way."""
    GONE = auto()
    """This agent has given it up or declined it: its first record comes too late."""
    FETCHED = auto()
    """It was offered, and waits for a slot.  It is not claimed yet."""
    WAITING = auto()
    """It started directly, so it is ours, and waits for a slot."""
    CLAIMING = auto()
    """It has a slot, and is being claimed."""
    RUNNING = auto()
    """It is ours, and its tasks run."""
    REPORTING = auto()
    """Its tasks have ended: its slot is free, and its end is being reported."""
    LEAVING = auto()
    """It was interrupted for good: its tasks are being killed."""


HELD: Final = frozenset(State) - {State.ABSENT, State.CANCELLED, State.GONE}
"""The states of orders that are here."""


class Arrival(NamedTuple):
    """A message of the work stream, or the first record of a direct start, and for which slots it came."""

    slots: Slots
    delivery: Delivery
    packet: Packet


class Message(Enum):
    """What may happen to an order on this agent."""

    OFFER = auto()
    """A packet of the work stream: of an order that is not here, or newer than the one that is."""
    AGAIN = auto()
    """The same packet again: its lease has run out at the server."""
    OLDER = auto()
    """An older packet than the one that is here."""
    LENT = auto()
    """The message that carries the lease of a direct start."""
    RECORD = auto()
    """The first record of a direct start."""
    LATE_RECORD = auto()
    """The same, but too old, or this agent takes no more work."""
    CANCEL = auto()
    """It is to be cancelled."""
    LEASE_LOST = auto()
    """Its lease was not renewed in time."""
    SLOT = auto()
    """A slot is free for it."""
    DRAIN = auto()
    """Its element takes no new work."""
    CLOSE = auto()
    """This agent is about to stop, and starts nothing more."""
    STOP = auto()
    """This agent stops now."""
    CLAIMED = auto()
    """It is ours."""
    ENDED = auto()
    """Its tasks have ended."""
    LEFT = auto()
    """Nothing of it is left on this agent."""


class Action(Enum):
    """What this agent does then."""

    NOTHING = auto()
    KEEP = auto()
    """Hold it until there is a slot."""
    KEEP_CANCELLED = auto()
    """The same, and run only its `always`."""
    REPLACE = auto()
    """Hold the newer packet in its place, and acknowledge the older message."""
    RENEW = auto()
    """Continue with the lease of the message that came."""
    ACKNOWLEDGE = auto()
    """Acknowledge the message that came: it says nothing new."""
    SEND_BACK = auto()
    """Have the message that came delivered again in a moment."""
    RETURN = auto()
    """Give the held message back, to be delivered again, here or elsewhere."""
    MARK_CANCELLED = auto()
    """Once it has a slot, run only its `always`."""
    START = auto()
    """Start its own asyncio task, which claims and runs it."""
    CANCEL = auto()
    """Interrupt its tasks: only `always` still runs."""
    LOSE = auto()
    """Kill its tasks and report nothing more."""
    STOP = auto()
    """Kill its tasks and leave it to the next attempt."""
    SUPERSEDE = auto()
    """`LOSE`, for a newer attempt has been offered: forget what was not reported, and `SEND_BACK`."""
    GIVE_UP = auto()
    """Acknowledge the message, and report that the order was given up."""
    DECLINE = auto()
    """Report that the order was never started here."""
    FORGET = auto()
    """Drop what is kept of it."""


class Step(NamedTuple):
    """One entry of the table."""

    to: State
    action: Action


def _row(state: State, *same: Message, **changes: tuple[State, Action]) -> Mapping[Message, Step]:
    """A row: messages that change nothing, and what the others do."""
    row = dict.fromkeys(same, Step(state, Action.NOTHING))
    row.update({Message[name.upper()]: Step(*change) for name, change in changes.items()})
    return row


S, M, A = State, Message, Action

TABLE: Final[Mapping[State, Mapping[Message, Step]]] = {
    S.ABSENT: _row(
        S.ABSENT,
        offer=(S.FETCHED, A.KEEP),
        lent=(S.GONE, A.GIVE_UP),  # its first record has not reached this agent
        record=(S.WAITING, A.KEEP),
        late_record=(S.GONE, A.DECLINE),
        cancel=(S.CANCELLED, A.NOTHING),
    ),
    S.CANCELLED: _row(
        S.CANCELLED,
        M.CANCEL,
        offer=(S.FETCHED, A.KEEP),  # the packet itself says that it is cancelled
        lent=(S.GONE, A.GIVE_UP),
        record=(S.WAITING, A.KEEP_CANCELLED),
        late_record=(S.GONE, A.DECLINE),
    ),
    S.GONE: _row(
        S.GONE,
        M.RECORD,
        M.LATE_RECORD,
        M.CANCEL,
        offer=(S.FETCHED, A.KEEP),
        lent=(S.GONE, A.ACKNOWLEDGE),
    ),
    S.FETCHED: _row(
        S.FETCHED,
        M.RECORD,
        M.LATE_RECORD,
        offer=(S.FETCHED, A.REPLACE),
        again=(S.FETCHED, A.RENEW),
        older=(S.FETCHED, A.ACKNOWLEDGE),
        cancel=(S.FETCHED, A.MARK_CANCELLED),
        lease_lost=(S.ABSENT, A.FORGET),  # its message is delivered again
        slot=(S.CLAIMING, A.START),
        drain=(S.ABSENT, A.RETURN),
        close=(S.ABSENT, A.RETURN),
    ),
    S.WAITING: _row(
        S.WAITING,
        M.RECORD,
        M.LATE_RECORD,
        M.DRAIN,
        offer=(S.FETCHED, A.REPLACE),
        lent=(S.WAITING, A.RENEW),
        cancel=(S.WAITING, A.MARK_CANCELLED),
        lease_lost=(S.GONE, A.DECLINE),
        slot=(S.CLAIMING, A.START),
        close=(S.GONE, A.DECLINE),
    ),
    S.CLAIMING: _row(
        S.CLAIMING,
        M.RECORD,
        M.LATE_RECORD,
        offer=(S.LEAVING, A.SUPERSEDE),
        again=(S.CLAIMING, A.RENEW),
        lent=(S.CLAIMING, A.RENEW),
        older=(S.CLAIMING, A.ACKNOWLEDGE),
        cancel=(S.CLAIMING, A.CANCEL),
        lease_lost=(S.LEAVING, A.LOSE),
        stop=(S.LEAVING, A.STOP),
        claimed=(S.RUNNING, A.NOTHING),
        left=(S.ABSENT, A.FORGET),  # another agent has claimed it, or it is not to be run any more
    ),
    S.RUNNING: _row(
        S.RUNNING,
        M.RECORD,
        M.LATE_RECORD,
        offer=(S.LEAVING, A.SUPERSEDE),
        again=(S.RUNNING, A.RENEW),
        lent=(S.RUNNING, A.RENEW),
        older=(S.RUNNING, A.ACKNOWLEDGE),
        cancel=(S.RUNNING, A.CANCEL),
        lease_lost=(S.LEAVING, A.LOSE),
        stop=(S.LEAVING, A.STOP),
        ended=(S.REPORTING, A.NOTHING),
        left=(S.ABSENT, A.FORGET),  # a bug of ours
    ),
    S.REPORTING: _row(
        S.REPORTING,
        M.RECORD,
        M.LATE_RECORD,
        M.CANCEL,
        offer=(S.REPORTING, A.SEND_BACK),  # it was suspended, and is released before we know that this is recorded
        again=(S.REPORTING, A.RENEW),
        lent=(S.REPORTING, A.RENEW),
        older=(S.REPORTING, A.ACKNOWLEDGE),
        lease_lost=(S.LEAVING, A.LOSE),
        stop=(S.LEAVING, A.STOP),
        left=(S.ABSENT, A.FORGET),
    ),
    S.LEAVING: _row(
        S.LEAVING,
        M.RECORD,
        M.LATE_RECORD,
        M.CANCEL,
        M.CLAIMED,
        M.ENDED,
        offer=(S.LEAVING, A.SUPERSEDE),
        again=(S.LEAVING, A.SEND_BACK),
        lent=(S.LEAVING, A.SEND_BACK),
        older=(S.LEAVING, A.ACKNOWLEDGE),
        lease_lost=(S.LEAVING, A.LOSE),
        stop=(S.LEAVING, A.STOP),
        left=(S.GONE, A.FORGET),
    ),
}
"""By state and message: the next state, and what is done.  A message that is missing in a row cannot happen then."""


class Hold:
    """One order on this agent.  `Orders` changes it, as the table says."""

    __slots__ = ("attempt", "bugs", "delivery", "has_slot", "order", "packet", "slots", "state")

    def __init__(self, order: str) -> None:
        self.order = order
        self.state = State.ABSENT
        self.bugs = 0
        """How often this agent has failed on it."""
        self.slots: Slots
        self.packet: Packet
        self.delivery: Delivery
        self.attempt: Attempt | None = None
        """Its run, from the slot on."""
        self.has_slot = False

    @property
    def is_held(self) -> bool:
        """Whether it is here: it has a packet, and a message or record that carries its lease."""
        return self.state in HELD

    def kind_of(self, packet: Packet) -> Message:
        """Which message a packet of the work stream is to this order."""
        if not self.is_held:
            return Message.LENT if is_direct(packet) else Message.OFFER
        if rev(packet) < rev(self.packet):
            return Message.OLDER
        if rev(packet) > rev(self.packet):
            return Message.OFFER
        return Message.LENT if is_direct(packet) else Message.AGAIN

    def interrupt(self, why: Why) -> None:
        """Stops what runs, for this reason."""
        if self.attempt is not None:
            self.attempt.interrupt(why)
