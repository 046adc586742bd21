"""Everything that changes the mesh, for HTTP and NATS alike."""

from __future__ import annotations

from nats.aio.client import Client

from muster.broker.agents import Agents
from muster.broker.firings import Firings
from muster.broker.log import Log
from muster.broker.objects import ObjectChange
from muster.broker.presence import Presences
from muster.broker.query import Query
from muster.broker.state.machine import State
from muster.broker.streams import StreamSettings

__all__ = ["Commands", "ObjectChange"]


class Commands(Firings, Agents):
    """The verbs of `/api/v1` and `muster.api.*`."""

    def __init__(
        self, client: Client, state: State, log: Log, query: Query, settings: StreamSettings, presences: Presences
    ) -> None:
        Firings.__init__(self, client, state, log, query)
        Agents.__init__(self, client, state, log, query, settings, presences)
