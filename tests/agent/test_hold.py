"""The table of what each message does to an order on an agent: complete, and reachable in every entry."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
from nats.aio.msg import Msg
from structlog.testing import capture_logs

from muster.agent import execute as execution
from muster.agent import orders as room
from muster.agent.attempt import Attempt, Why
from muster.agent.execute import DONE, Exit, Hear
from muster.agent.hold import HELD, TABLE, Arrival, Hold, Message, State, Step
from muster.agent.lease import Delivery
from muster.agent.orders import Orders
from muster.agent.resume import GivenUp
from muster.agent.slots import Slots
from muster.agent.workshop import Workshop
from muster.mesh.messages import Assignment, Packet
from muster.mesh.model import Direct, Offered, Start

ORDER = "order1"


DIRECT = 0
"""Instead of an offer's sequence: a direct start."""


def start_of(rev: int) -> Start:
    """How an order gets here."""
    return Offered(rev=rev) if rev else Direct(agent="a1")


class Letter(Delivery):
    """A delivery that notes what becomes of it."""

    def __init__(self, sequence: int, beat: float | None = None) -> None:
        reply = f"$JS.ACK.stream.consumer.1.{sequence}.1.1.0"
        super().__init__(cast(Msg, SimpleNamespace(reply=reply, subject="muster.begin.e1")), 30.0, beat)
        self.answers: list[str] = []

    def acknowledge(self) -> None:
        self.answers.append("ack")

    def give_back(self, delay: float = 0.0) -> None:
        self.answers.append("nak")


class Leases:
    """The deliveries that are renewed."""

    def __init__(self) -> None:
        self.held: set[Delivery] = set()

    def hold(self, delivery: Delivery) -> None:
        assert delivery not in self.held
        self.held.add(delivery)

    def release(self, delivery: Delivery) -> None:
        self.held.discard(delivery)


class Broker:
    """What is reported to it."""

    def __init__(self) -> None:
        self.declined: list[bool] = []

    def add(self, _packet: Packet, _element: str, *, declined: bool = False) -> None:
        self.declined.append(declined)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """The bugs that tests make are not written out: that takes longer than all else."""
    with capture_logs():
        yield


class Agent:
    """One order and one slot, and every way in which something can happen to the order."""

    def __init__(self) -> None:
        self.leases, self.broker = Leases(), Broker()
        shop = SimpleNamespace(lease=self.leases, isolation=None, closing=asyncio.Event())
        self.slots = Slots(Assignment(element="e1", kind="machine", takes_work=True))
        self.orders = Orders(cast(Workshop, shop), cast(GivenUp, self.broker))
        self.letters: list[Letter] = []
        self.steps: asyncio.Queue[Message | Exit | Exception] = asyncio.Queue()
        self.phase = 0
        self.is_occupied = False

    @property
    def hold(self) -> Hold:
        return self.orders.holds.get(ORDER) or self.orders._remembered.get(ORDER) or Hold(ORDER)

    async def execute(self, attempt: Attempt, _bugs: int, hear: Hear) -> Exit:
        """In the place of the real one: goes as far as the test says."""
        while isinstance(step := await self.steps.get(), Message):
            hear(step)
        if isinstance(step, Exception):
            raise step
        return step

    # -- what may happen; each says whether it can happen now -------------------------------------

    def packet(self, rev: int) -> bool:
        """A message of the work stream."""
        packet = Packet(order=ORDER, attempt=1, start=start_of(rev), blueprint="b", digest="0" * 64, element="e1")
        if not (self.orders.knows(packet) or self.slots.takes_work):
            return False
        self.orders.arrived(Arrival(self.slots, self._letter(), packet))
        return True

    def record(self, *, is_late: bool) -> bool:
        """The first record of a direct start."""
        packet = Packet(order=ORDER, attempt=1, start=start_of(DIRECT), blueprint="b", digest="0" * 64, element="e1")
        self.orders.started(
            Arrival(self.slots, self._letter(beat=1.0), packet), is_late=is_late or self.slots.is_closed
        )
        return True

    def cancel(self) -> bool:
        self.orders.cancel(ORDER)
        return True

    def lose(self) -> bool:
        if not self.hold.is_held or (lost := self.hold.delivery.on_lost) is None:
            return False
        self.leases.release(self.hold.delivery)  # as the lease does before it says so
        lost()
        return True

    def occupy(self) -> bool:
        """Another order has the slot."""
        if self.slots.busy:
            return False
        self.is_occupied = True
        self.slots.busy += 1
        return True

    def free(self) -> bool:
        if not self.is_occupied:
            return False
        self.is_occupied = False
        self.slots.busy -= 1
        self.orders.fill(self.slots)
        return True

    def drain(self) -> bool:
        self.slots.assignment = Assignment(element="e1", kind="machine", takes_work=False)
        self.orders.drain(self.slots)
        return True

    def close(self) -> bool:
        self.slots.is_closed = True
        self.orders.close(self.slots)
        return True

    def stop(self) -> bool:
        if not self.slots.is_closed:
            return False
        self.orders.stop()
        return True

    def proceed(self, step: Message | Exit | Exception) -> bool:
        """The order's own task continues."""
        attempt = self.hold.attempt
        expected = {Message.CLAIMED: 0, Message.ENDED: 1}
        if attempt is None or (isinstance(step, Message) and self.phase != expected[step]):
            return False
        self.phase = self.phase + 1 if isinstance(step, Message) else 0
        self.steps.put_nowait(step)
        return True

    # -- inside -----------------------------------------------------------------------------------

    def _letter(self, beat: float | None = None) -> Letter:
        self.letters.append(Letter(len(self.letters) + 1, beat))
        return self.letters[-1]

    def situation(self) -> tuple[Any, ...]:
        """What distinguishes one situation from another, as far as what may happen next depends on it."""
        hold = self.hold
        held = (hold.packet.rev, hold.packet.cancelled, hold.delivery.is_direct) if hold.is_held else ()
        why = hold.attempt.why if hold.attempt else None
        return hold.state, held, why, self.phase, self.slots.busy, self.slots.is_closed, self.slots.takes_work

    def check(self) -> None:
        """What holds in every situation."""
        hold = self.hold
        assert self.slots.busy == self.is_occupied + hold.has_slot <= 1
        assert self.leases.held <= ({hold.delivery} if hold.is_held else set())
        assert (hold.order in self.orders.holds) == (hold.state in HELD)
        queues = {State.WAITING: self.slots.waiting, State.FETCHED: self.slots.fetched}
        for state, queue in queues.items():
            assert (hold.order in queue) == (hold.state is state)
        for letter in self.letters:
            assert len(letter.answers) <= 1, "a message is dealt with once"
            if letter.answers and hold.is_held and hold.attempt is None:
                assert letter is not hold.delivery, "what is dealt with is not held"


WHAT_MAY_HAPPEN: Mapping[str, Callable[[Agent], bool]] = {
    "the first offer": lambda agent: agent.packet(1),
    "a newer offer": lambda agent: agent.packet(2),
    "the message of a direct start": lambda agent: agent.packet(DIRECT),
    "the record of a direct start": lambda agent: agent.record(is_late=False),
    "a late record": lambda agent: agent.record(is_late=True),
    "a cancel": Agent.cancel,
    "the lease is lost": Agent.lose,
    "another order gets the slot": Agent.occupy,
    "the slot is free": Agent.free,
    "the element is drained": Agent.drain,
    "the agent is about to stop": Agent.close,
    "the agent stops": Agent.stop,
    "it is claimed": lambda agent: agent.proceed(Message.CLAIMED),
    "its tasks have ended": lambda agent: agent.proceed(Message.ENDED),
    "its end is reported": lambda agent: agent.proceed(DONE),
    "it is given up": lambda agent: agent.proceed(Exit(is_given_up=True)),
    "a bug": lambda agent: agent.proceed(ZeroDivisionError("a bug")),
}


class Seen(dict[State, "Row"]):
    """The table, noting what is looked up."""


class Row(dict[Message, Step]):
    """A row of it."""

    def __init__(self, state: State, seen: set[tuple[State, Message]]) -> None:
        super().__init__(TABLE[state])
        self._state, self._seen = state, seen

    def __getitem__(self, message: Message) -> Step:
        self._seen.add((self._state, message))
        return super().__getitem__(message)


async def after(events: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> Agent | None:
    """An agent to which all of this has happened; None if it could not."""
    agent = Agent()
    monkeypatch.setattr(execution, "execute", agent.execute)
    monkeypatch.setattr(execution, "clear_up", _nothing)
    for event in events:
        if not WHAT_MAY_HAPPEN[event](agent):
            await agent.orders.end()
            return None
        for _ in range(6):  # until the order's own task waits again
            await asyncio.sleep(0)
        agent.check()
    return agent


async def _nothing(_: Attempt) -> None:
    """There is nothing to clear up."""


@pytest.mark.timeout(300)
async def test_the_table_has_an_entry_for_all_that_can_happen_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every situation that an order can get into is visited, and all that can happen there happens."""
    seen: set[tuple[State, Message]] = set()
    monkeypatch.setattr(room, "TABLE", Seen({state: Row(state, seen) for state in TABLE}))
    known: set[tuple[Any, ...]] = set()
    to_visit: list[tuple[str, ...]] = [()]
    while to_visit:
        before = to_visit.pop(0)
        for event in WHAT_MAY_HAPPEN:
            if (agent := await after((*before, event), monkeypatch)) is None:
                continue
            if (situation := agent.situation()) not in known:
                known.add(situation)
                to_visit.append((*before, event))
            await agent.orders.end()
    assert seen == {(state, message) for state, row in TABLE.items() for message in row}
    assert {situation[0] for situation in known} == set(State) == set(TABLE)


@pytest.mark.parametrize(
    ("events", "state", "declined"),
    [
        (("the message of a direct start", "the record of a direct start"), State.GONE, [False]),
        (("another order gets the slot", "the record of a direct start", "the lease is lost"), State.GONE, [True]),
        (("the agent is about to stop", "the record of a direct start"), State.GONE, [True]),
        (("the first offer", "it is claimed", "it is given up"), State.ABSENT, [False]),
        (("the first offer", "it is claimed", "a bug"), State.ABSENT, [False]),
        (("the first offer", "it is claimed", "its tasks have ended", "its end is reported"), State.ABSENT, []),
    ],
)
async def test_the_broker_hears_what_this_agent_gives_up(
    events: tuple[str, ...], state: State, declined: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = await after(events, monkeypatch)
    assert agent is not None
    assert (agent.hold.state, agent.broker.declined) == (state, declined)


@pytest.mark.parametrize("event", ["a cancel", "the lease is lost", "a newer offer"])
async def test_what_interrupts_a_running_order(event: str, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = await after(("the first offer", "it is claimed", event), monkeypatch)
    assert agent is not None
    assert agent.hold.attempt is not None
    expected = Why.CANCELLED if event == "a cancel" else Why.LOST
    assert agent.hold.attempt.why is expected
    await agent.orders.end()


async def test_a_cancel_that_overtakes_the_first_record_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = await after(("a cancel", "the record of a direct start"), monkeypatch)
    assert agent is not None
    assert agent.hold.attempt is not None
    assert agent.hold.attempt.why is Why.CANCELLED
    await agent.orders.end()


async def test_the_older_of_two_messages_is_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = await after(("another order gets the slot", "the first offer", "a newer offer"), monkeypatch)
    assert agent is not None
    assert [letter.answers for letter in agent.letters] == [["ack"], []]
    assert agent.hold.packet.rev == 2
