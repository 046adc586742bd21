"""Agents that were not heard of, and the orders they held."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from muster.broker.duties.duty import Duty
from muster.broker.state.machine import State
from muster.mesh.model import Presence
from muster.mesh.records import Left, Lost, Record


class Expire(Duty):
    """Marks silent elements offline, and gives up what their agents held once the lease is surely over.

    An agent kills its own tasks after two thirds of a lease without a confirmed renewal; here an
    order is given up one and a half leases after the agent's last sign of life, so the two never
    overlap.
    """

    every = 0.5

    def __init__(self, lease: timedelta, started: datetime) -> None:
        self._silence = min(timedelta(seconds=15), lease / 2)
        self._lost_after = lease * 1.5
        self._started = started
        self._heard: dict[str, datetime] = {}
        self._left: dict[tuple[str, str], str] = {}

    def heard(self, element: str, presence: Presence, now: datetime) -> None:
        """A heartbeat came in."""
        if presence.leaving:
            self._heard.pop(presence.agent, None)
            self._left[element, presence.agent] = "it said good-bye"
        else:
            self._heard[presence.agent] = now

    def run_once(self, state: State, now: datetime) -> Iterator[Record]:
        """Left for silent agents, Lost for what they held."""
        for name, element in state.fleet.elements.items():
            if element.agent is None:
                continue
            if reason := self._left.pop((name, element.agent), None):
                yield Left(element=name, agent=element.agent, reason=reason)
                yield from self._given_up(state, name, element.agent)
            elif now - self._last_sign(element.agent, element.since) > self._silence:
                yield Left(element=name, agent=element.agent, reason="its agent was not heard of for too long")
        self._forget_old(now)
        for name in list(state.shelves.holders()):
            for ident in state.shelves.held(name):
                order = state.orders[ident]
                if order.agent is not None and now - self._last_sign(order.agent, None) > self._lost_after:
                    reason = f"nothing was heard of the agent on {name} for {self._lost_after.total_seconds():g} s"
                    yield Lost(order=ident, attempt=order.attempt, reason=reason)

    def _forget_old(self, now: datetime) -> None:
        """Each daemon has an id of its own, so those that are gone must not pile up."""
        for agent in [agent for agent, heard in self._heard.items() if now - heard > 4 * self._lost_after]:
            del self._heard[agent]

    def _given_up(self, state: State, element: str, agent: str) -> Iterator[Lost]:
        """What an agent held that said good-bye: it has stopped its tasks before."""
        for ident in state.shelves.held(element):
            order = state.orders[ident]
            if order.agent == agent:
                yield Lost(order=ident, attempt=order.attempt, reason=f"the agent on {element} was stopped")

    def _last_sign(self, agent: str, joined: datetime | None) -> datetime:
        return max(self._heard.get(agent, self._started), joined or self._started)
