"""Which agents were heard of, and when: what `Expire` and `join` judge by."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from muster.mesh.model import Presence


class _Sign(NamedTuple):
    """The last heartbeat for an element."""

    agent: str
    heard: datetime
    beat: float


class Presences:
    """The last sign of life of every agent.  Each broker keeps its own, from the same heartbeats."""

    def __init__(self, started: datetime, silence: timedelta) -> None:
        self._started = started
        self.silence = silence
        """How long an agent may say nothing before its elements are offline."""
        self._agents: dict[str, datetime] = {}
        self._elements: dict[str, _Sign] = {}
        self._left: set[tuple[str, str]] = set()

    def start(self, now: datetime) -> None:
        """Only from now on does silence count: nobody could be heard before."""
        self._started = now

    def heard(self, element: str, presence: Presence, now: datetime) -> None:
        """A heartbeat came in."""
        if presence.leaving:
            self._left.add((element, presence.agent))
            self._elements.pop(element, None)
        else:
            self._agents[presence.agent] = now
            self._elements[element] = _Sign(presence.agent, now, presence.at)

    def last(self, agent: str) -> datetime:
        """When an agent was last heard of; this broker's start, if that is later."""
        return max(self._agents.get(agent, self._started), self._started)

    def is_silent(self, agent: str, now: datetime) -> bool:
        """Whether an agent should be taken for gone."""
        return now - self.last(agent) > self.silence

    def serves(self, element: str, now: datetime) -> str | None:
        """The agent that says just now that it acts for an element."""
        sign = self._elements.get(element)
        return sign.agent if sign is not None and now - sign.heard <= self.silence / 2 else None

    def beat(self, element: str, agent: str, now: datetime) -> float:
        """An agent's clock when it said just now that it acts for an element; 0 if it did not."""
        return self._elements[element].beat if self.serves(element, now) == agent else 0.0

    def said_goodbye(self, element: str, agent: str) -> bool:
        """Whether an agent gave an element up; told once."""
        if (element, agent) not in self._left:
            return False
        self._left.discard((element, agent))
        return True

    def forget(self, before: datetime) -> None:
        """Each daemon has an id of its own: those that are gone must not pile up."""
        self._agents = {agent: heard for agent, heard in self._agents.items() if heard > before}
        if len(self._left) > 10 * len(self._agents) + 100:
            self._left.clear()
