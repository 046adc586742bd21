"""Everything that changes the mesh, for HTTP and NATS alike."""

from __future__ import annotations

from muster.broker.agents import Agents
from muster.broker.firings import Firings
from muster.broker.means import Means
from muster.broker.objects import ObjectChange
from muster.broker.presence import Presences
from muster.broker.streams import StreamSettings

__all__ = ["Commands", "ObjectChange"]


class Commands(Firings, Agents):
    """The verbs of `/api/v1` and `muster.api.*`."""

    def __init__(self, means: Means, settings: StreamSettings, presences: Presences) -> None:
        Firings.__init__(self, means)
        Agents.__init__(self, means, settings, presences)
