"""Which agents were heard of, and when: what `Expire` and `join` judge by."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from time import monotonic
from typing import NamedTuple

from muster.mesh.model import Presence


class _Sign(NamedTuple):
    """The last heartbeat for an element."""

    agent: str
    heard: float
    beat: float


class Presences:
    """The last sign of life of every agent.  Each broker keeps its own, from the same heartbeats.

    It goes by a clock that nobody sets: a day's time that is put right is no silence.
    """

    def __init__(self, silence: timedelta, clock: Callable[[], float] = monotonic) -> None:
        self.silence = silence
        """How long an agent may say nothing before its elements are offline."""
        self._clock = clock
        self._started = clock()
        self._agents: dict[str, float] = {}
        self._elements: dict[str, _Sign] = {}
        self._left: set[tuple[str, str]] = set()

    def start(self) -> None:
        """Only from now on does silence count: nobody could be heard before."""
        self._started = self._clock()

    def heard(self, element: str, presence: Presence) -> None:
        """A heartbeat came in."""
        if presence.leaving:
            self._left.add((element, presence.agent))
            self._elements.pop(element, None)
        else:
            now = self._agents[presence.agent] = self._clock()
            self._elements[element] = _Sign(presence.agent, now, presence.at)

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
