"""The last heartbeat of every agent, by which `Expire` and `join` decide, and what is wrong with agents."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from time import monotonic
from typing import Final, NamedTuple, TypeVar

import msgspec
from nats.aio.msg import Msg

from muster.broker.lease import Lease
from muster.mesh import names
from muster.mesh.errors import MALFORMED
from muster.mesh.messages import Presence
from muster.mesh.version import Speaker, agent_misfit

K = TypeVar("K")
V = TypeVar("V")

MOST_SKEW: Final = 2.0
"""Seconds by which an agent's clock may be off before that is reported; a heartbeat may have taken some to arrive."""

LONGEST_SILENCE: Final = timedelta(seconds=15)
"""After how long without a heartbeat an element is offline, however long the lease is."""

MOST_MISFITS: Final = 1000
"""Elements whose agent is incompatible, remembered at most."""

MISFIT_SHOWN: Final = 60.0
"""Seconds for which an incompatible agent is shown after its last message."""


MOST_SIGNS: Final = 100_000
"""Elements, agents and good-byes remembered, each; anybody may publish a heartbeat, so the oldest are forgotten."""

FORGOTTEN_AFTER: Final = 6
"""Leases without a heartbeat after which nothing of an agent is remembered; its orders were given up long before."""


class _Sign(NamedTuple):
    """The last heartbeat for an element."""

    agent: str
    heard: float
    beat: float
    ahead: float
    """Seconds by which the agent's own clock is ahead of ours."""
    is_unconfined: bool


class _Misfit(NamedTuple):
    """An agent with another protocol."""

    agent: str
    heard: float
    speaker: Speaker


class _AnyPresence(Presence, forbid_unknown_fields=False):
    """A heartbeat of any version: a later one may say more."""


_decode = msgspec.json.Decoder(_AnyPresence).decode


class Presences:
    """The last heartbeat of every agent.  Each broker keeps its own, from the same messages.

    It uses a monotonic clock: a correction of the wall clock must not look like silence.
    """

    def __init__(
        self, lease: Lease, clock: Callable[[], float] = monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self._lease = lease
        self._clock = clock
        self._wall = wall
        self._started = clock()
        self._agents: dict[str, float] = {}
        self._elements: dict[str, _Sign] = {}
        self._misfits: dict[str, _Misfit] = {}
        self._left: dict[tuple[str, str], float] = {}
        self._forget_at = clock()

    @property
    def silence(self) -> timedelta:
        """How long an agent may be silent before its elements are offline."""
        return min(LONGEST_SILENCE, self._lease.longer / 2)

    def start(self) -> None:
        """Counts silence only from now on: no heartbeat could arrive before."""
        self._started = self._clock()

    async def receive(self, message: Msg) -> None:
        """Notes the heartbeat in a message; a malformed one is ignored."""
        with suppress(*MALFORMED):
            self.heard(names.untoken(message.subject.rpartition(".")[2]), _decode(message.data))

    def heard(self, element: str, presence: Presence) -> None:
        """Notes a heartbeat."""
        self._forget_old()
        speaker = Speaker(protocol=presence.protocol, version=presence.version)
        if presence.leaving:
            _remember(self._left, (element, presence.agent), self._clock())
            self._elements.pop(element, None)
        elif not speaker.fits:
            self.misfits(element, presence.agent, speaker)
        else:
            now = self._clock()
            ahead = presence.time - self._wall() if presence.time else 0.0
            _remember(self._agents, presence.agent, now)
            sign = _Sign(presence.agent, now, presence.at, ahead, presence.is_unconfined)
            _remember(self._elements, element, sign)
            self._misfits.pop(element, None)

    def misfits(self, element: str, agent: str, speaker: Speaker) -> bool:
        """Notes an incompatible agent; returns whether it is new.  It lives, so its orders are not revoked."""
        now = self._clock()
        before = self._misfits.get(element)
        _remember(self._agents, agent, now)
        _remember(self._misfits, element, _Misfit(agent, now, speaker), MOST_MISFITS)
        return before is None or before.agent != agent

    def silent_for(self, agent: str) -> timedelta:
        """How long an agent has been silent while it could be heard; for an unknown one, since the first call."""
        now = self._clock()
        return timedelta(seconds=now - max(self._agents.setdefault(agent, now), self._started))

    def is_silent(self, agent: str) -> bool:
        """Whether an agent counts as offline."""
        return self.silent_for(agent) > self.silence

    def serves(self, element: str) -> str | None:
        """The agent that acts for an element, by its latest heartbeats."""
        sign = self._elements.get(element)
        if sign is None or self._clock() - sign.heard > self.silence.total_seconds() / 2:
            return None
        return sign.agent

    def beat(self, element: str, agent: str) -> float:
        """The agent's clock at its last heartbeat for an element; 0 if it does not act for it now."""
        return self._elements[element].beat if self.serves(element) == agent else 0.0

    def misfit(self, element: str, agent: str) -> str:
        """Why an element's agent is incompatible; empty if it is not."""
        found = self._misfits.get(element)
        return agent_misfit(found.speaker) if found is not None and found.agent == agent else ""

    def trouble(self, element: str) -> str:
        """What is wrong with the agent of an element, or with one that tries to act for it; empty if nothing is."""
        found, sign = self._misfits.get(element), self._elements.get(element)
        if found is not None and self._clock() - found.heard < MISFIT_SHOWN:
            return agent_misfit(found.speaker)
        if sign is None or self.serves(element) is None or abs(sign.ahead) <= MOST_SKEW:
            return ""
        return f"its host's clock is {abs(sign.ahead):.0f} s {'ahead of' if sign.ahead > 0 else 'behind'} the broker's"

    def troubles(self, most: int) -> dict[str, str]:
        """What is wrong with agents, by element; at most so many."""
        found: dict[str, str] = {}
        for element in sorted(self._misfits.keys() | self._elements.keys()):
            if why := self.trouble(element):
                found[element] = why
                if len(found) == most:
                    break
        return found

    def unconfined(self, most: int) -> tuple[str, ...]:
        """Elements on which tasks run as root, without isolation; at most so many."""
        found = sorted(element for element, sign in self._elements.items() if sign.is_unconfined)
        return tuple(element for element in found[:most] if self.serves(element))

    def said_goodbye(self, element: str, agent: str) -> bool:
        """Whether an agent said that it leaves an element; true once."""
        return self._left.pop((element, agent), None) is not None

    def _forget_old(self) -> None:
        """Forgets agents, elements and good-byes by age: each daemon has a new id, and elements come and go."""
        now, lease = self._clock(), self._lease.longer.total_seconds()
        if now < self._forget_at:
            return
        self._forget_at = now + lease
        before = now - lease * FORGOTTEN_AFTER
        self._agents = {agent: heard for agent, heard in self._agents.items() if heard > before}
        self._elements = {element: sign for element, sign in self._elements.items() if sign.heard > before}
        self._left = {left: heard for left, heard in self._left.items() if heard > before}


def _remember(known: dict[K, V], key: K, value: V, most: int = MOST_SIGNS) -> None:
    """Keeps the newest entries, at most so many."""
    known.pop(key, None)
    if len(known) >= most:
        del known[next(iter(known))]
    known[key] = value
