"""Agents that were not heard of, and the orders they held."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from muster.broker.duties.duty import Duty
from muster.broker.lease import Lease
from muster.broker.presence import Presences
from muster.broker.state.element import Element
from muster.broker.state.world import World
from muster.mesh.records import Joined, Left, Lost, Record


class Expire(Duty):
    """Marks silent elements offline, and gives up what their agents held once the lease is surely over.

    An agent kills its own tasks after two thirds of a lease without a confirmed renewal; here an
    order is given up one and a half leases after the agent's last sign of life, so the two never
    overlap.
    """

    every = 0.5

    def __init__(self, lease: Lease, presences: Presences) -> None:
        self._lease = lease
        self._presences = presences

    @property
    def _lost_after(self) -> timedelta:
        return self._lease.longer * 1.5

    def run_once(self, state: World, now: datetime) -> Iterator[Record]:
        """Left for silent agents, Lost for what they held, Joined for those that speak again."""
        del now  # silence is measured by a clock that nobody sets
        for element in list(state.elements.values()):
            yield from self._look_at(element, state)
        for name in list(state.held.holders()):
            for ident in state.held.by(name):
                order = state.orders[ident]
                if order.agent is not None and self._presences.silent_for(order.agent) > self._lost_after:
                    reason = f"nothing was heard of the agent on {name} for {self._lost_after.total_seconds():g} s"
                    yield Lost(order=ident, attempt=order.attempt, reason=reason)

    def _look_at(self, element: Element, state: World) -> Iterator[Record]:
        name, agent = element.name, element.agent
        if agent is None:
            if (speaking := self._presences.serves(name)) is not None:
                yield Joined(element=name, agent=speaking)
        elif self._presences.said_goodbye(name, agent):
            yield Left(element=name, agent=agent, reason="it said good-bye")
            yield from _given_up(state, name, agent)
        elif misfit := self._presences.misfit(name, agent):
            yield Left(element=name, agent=agent, reason=misfit)
        elif self._presences.is_silent(agent):
            yield Left(element=name, agent=agent, reason="its agent was not heard of for too long")


def _given_up(state: World, element: str, agent: str) -> Iterator[Lost]:
    """What an agent held that said good-bye: it has stopped its tasks before."""
    for ident in state.held.by(element):
        order = state.orders[ident]
        if order.agent == agent:
            yield Lost(order=ident, attempt=order.attempt, reason=f"the agent on {element} was stopped")
