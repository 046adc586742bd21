"""What a broker remembers of heartbeats does not grow without bound."""

from __future__ import annotations

from datetime import timedelta

from muster.broker.lease import Lease
from muster.broker.presence import FORGOTTEN_AFTER, MOST_SIGNS, Presences
from muster.mesh.messages import Presence
from muster.mesh.version import OURS

LEASE = timedelta(seconds=10)


class Clock:
    """A clock that only the test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def beat(presences: Presences, number: int, *, leaving: bool = False) -> None:
    presence = Presence(
        agent=f"agent{number}", leaving=leaving, at=0.0, time=0.0, protocol=OURS.protocol, version=OURS.version
    )
    presences.heard(f"e{number}", presence)


def remembered(presences: Presences) -> int:
    return len(presences._agents) + len(presences._elements) + len(presences._left)


def test_a_broker_forgets_agents_and_elements_that_are_gone() -> None:
    """Also one that never leads: it hears the same heartbeats, and no duty runs on it."""
    clock = Clock()
    presences = Presences(Lease(LEASE), clock, clock)
    for number in range(1000):
        beat(presences, number)
        beat(presences, number + 1000, leaving=True)
    clock.now += LEASE.total_seconds() * (FORGOTTEN_AFTER + 1)
    beat(presences, 5000)
    assert presences.serves("e5000") == "agent5000"
    assert remembered(presences) == 2


def test_a_broker_remembers_so_many_and_no_more() -> None:
    clock = Clock()
    presences = Presences(Lease(LEASE), clock, clock)
    for number in range(MOST_SIGNS + 500):
        beat(presences, number)
    assert remembered(presences) == 2 * MOST_SIGNS
    assert presences.serves(f"e{MOST_SIGNS + 499}")
    assert presences.serves("e0") is None
