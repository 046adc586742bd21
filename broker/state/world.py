"""The world: everything that is alive in a mesh, as plain data, and indexes over it."""

from __future__ import annotations

from datetime import datetime

import msgspec

from muster.broker.state.aggregate import aggregates
from muster.broker.state.element import Element
from muster.broker.state.fleet import Fleet
from muster.broker.state.held import Held
from muster.broker.state.kept import Kept
from muster.broker.state.lanes import Lanes
from muster.broker.state.pool_index import Pools
from muster.broker.state.stored import Objects
from muster.broker.state.trigger_status import TriggerStatuses
from muster.mesh.model import Order


class World:
    """Only what is alive: elements, objects, open orders.  History is the projection's.

    `apply` changes it; everybody else reads.
    """

    def __init__(self) -> None:
        self.seq = 0
        """The last log sequence applied."""
        self.time: datetime | None = None
        """When the record there was stored."""
        self.reports_after = 0
        """Records up to this sequence make no events: nobody can read those any more."""
        self.refused = 0
        """Messages that are not records, or are on a subject where they are not allowed."""
        self.orders: dict[str, Order] = {}
        """Open orders."""
        self.elements: dict[str, Element] = {}
        self.objects = Objects()
        self.pools = Pools()
        self.trigger_statuses = TriggerStatuses()
        self.things: dict[tuple[str, str], msgspec.Struct] = {}
        """By kind and id, what has no index of its own: the things of aggregates from other packages."""
        self.fleet = Fleet(self.elements, self.objects, self.pools)
        self.held = Held()
        self.lanes = Lanes()
        self.timers: dict[str, datetime] = {}
        """Open orders that wait for a time."""
        self.clean_ups: dict[str, datetime] = {}
        """Orders of which only the clean-up is still to be run, by nobody so far, and since when."""

    def load(self, kept: Kept) -> None:
        """Takes what a projection kept, as it was at its sequence; only on a new world.

        Raises:
            MsgspecError: a thing that it kept is not what its kind says.
        """
        from muster.broker.state.orders import keep

        self.seq, self.time = kept.seq, kept.time
        for aggregate in aggregates():
            for kind, struct in aggregate.things.items():
                for ident, thing in kept.of(kind, struct):
                    if aggregate.load is not None:
                        aggregate.load(self, kind, thing)
                    else:
                        self.things[kind, ident] = thing
        for order in kept.orders:
            keep(self, None, order)
        for aggregate in aggregates():
            if aggregate.restore is not None:
                aggregate.restore(self)
