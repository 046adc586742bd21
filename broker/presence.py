"""Which agents were heard of, and when: what `Expire` and `join` judge by; and what is wrong with them."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from time import monotonic
from typing import Final, NamedTuple

from muster.mesh.model import Presence
from muster.mesh.version import Speaker, agent_misfit

MOST_SKEW: Final = 2.0
"""Seconds by which an agent's clock may be off before that is said; a heartbeat may have been under way for some."""

MOST_MISFITS: Final = 1000
"""Elements remembered for whom an agent asked that does not fit."""

REMEMBERED: Final = 60.0
"""Seconds for which a misfit that says nothing more is remembered."""


class _Sign(NamedTuple):
    """The last heartbeat for an element."""

    agent: str
    heard: float
    beat: float
    ahead: float
    """Seconds by which the agent's own clock is ahead of ours."""
    is_unconfined: bool


class _Misfit(NamedTuple):
    """An agent whose protocol is not ours."""

    agent: str
    heard: float
    speaker: Speaker


class Presences:
    """The last sign of life of every agent.  Each broker keeps its own, from the same heartbeats.

    It goes by a clock that nobody sets: a day's time that is put right is no silence.
    """

    def __init__(
        self, silence: timedelta, clock: Callable[[], float] = monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self.silence = silence
        """How long an agent may say nothing before its elements are offline."""
        self._clock = clock
        self._wall = wall
        self._started = clock()
        self._agents: dict[str, float] = {}
        self._elements: dict[str, _Sign] = {}
        self._misfits: dict[str, _Misfit] = {}
        self._left: set[tuple[str, str]] = set()

    def start(self) -> None:
        """Only from now on does silence count: nobody could be heard before."""
        self._started = self._clock()

    def heard(self, element: str, presence: Presence) -> None:
        """A heartbeat came in."""
        speaker = Speaker(protocol=presence.protocol, version=presence.version)
        if presence.leaving:
            self._left.add((element, presence.agent))
            self._elements.pop(element, None)
        elif not speaker.fits:
            self.misfits(element, presence.agent, speaker)
        else:
            now = self._agents[presence.agent] = self._clock()
            ahead = presence.time - self._wall() if presence.time else 0.0
            self._elements[element] = _Sign(presence.agent, now, presence.at, ahead, presence.is_unconfined)
            self._misfits.pop(element, None)

    def misfits(self, element: str, agent: str, speaker: Speaker) -> bool:
        """An agent does not fit.  It lives, and what it runs is not given up; whether that is news."""
        now = self._agents[agent] = self._clock()
        before = self._misfits.pop(element, None)
        if before is None and len(self._misfits) >= MOST_MISFITS:
            del self._misfits[next(iter(self._misfits))]
        self._misfits[element] = _Misfit(agent, now, speaker)
        return before is None or before.agent != agent

    def silent_for(self, agent: str) -> timedelta:
        """How long nothing was heard of an agent that could have been; of one never heard of, since we first asked."""
        now = self._clock()
        return timedelta(seconds=now - max(self._agents.setdefault(agent, now), self._started))

    def is_silent(self, agent: str) -> bool:
        """Whether an agent should be taken for gone."""
        return self.silent_for(agent) > self.silence

    def serves(self, element: str) -> str | None:
        """The agent that says just now that it acts for an element."""
        sign = self._elements.get(element)
        if sign is None or self._clock() - sign.heard > self.silence.total_seconds() / 2:
            return None
        return sign.agent

    def beat(self, element: str, agent: str) -> float:
        """An agent's clock when it said just now that it acts for an element; 0 if it did not."""
        return self._elements[element].beat if self.serves(element) == agent else 0.0

    def misfit(self, element: str, agent: str) -> str:
        """Why an agent does not fit that says that it acts for an element; empty if it does."""
        found = self._misfits.get(element)
        return agent_misfit(found.speaker) if found is not None and found.agent == agent else ""

    def trouble(self, element: str) -> str:
        """What is wrong with an element's agent, or with one that wants to be it; empty if nothing is known."""
        found, sign = self._misfits.get(element), self._elements.get(element)
        if found is not None and self._clock() - found.heard < REMEMBERED:
            return agent_misfit(found.speaker)
        if sign is None or self.serves(element) is None or abs(sign.ahead) <= MOST_SKEW:
            return ""
        return f"its host's clock is {abs(sign.ahead):.0f} s {'ahead of' if sign.ahead > 0 else 'behind'} the broker's"

    def troubles(self, most: int) -> dict[str, str]:
        """By element, what is wrong with agents; at most so many."""
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
        """Whether an agent gave an element up; told once."""
        if (element, agent) not in self._left:
            return False
        self._left.discard((element, agent))
        return True

    def forget(self, after: timedelta) -> None:
        """Each daemon has an id of its own: those that are gone must not pile up."""
        before = self._clock() - after.total_seconds()
        self._agents = {agent: heard for agent, heard in self._agents.items() if heard > before}
        if len(self._left) > 10 * len(self._agents) + 100:
            self._left.clear()
