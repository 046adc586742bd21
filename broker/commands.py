"""Everything that changes the mesh, for HTTP and NATS alike."""

from __future__ import annotations

import msgspec
from nats.aio.client import Client

from muster.broker.agents import Agents
from muster.broker.announcements import Announcements
from muster.broker.blueprint_store import BlueprintStore
from muster.broker.elements import Elements
from muster.broker.firings import Firings
from muster.broker.lease import Lease
from muster.broker.means import Means
from muster.broker.objects import Objects
from muster.broker.orders import Orders
from muster.broker.planning.blueprints import Blueprints
from muster.broker.planning.firings import FiringPlans
from muster.broker.planning.first import StartDirectly
from muster.broker.presence import Presences


class Commands(msgspec.Struct, frozen=True, kw_only=True):
    """The services of a broker, beside each other."""

    orders: Orders
    firings: Firings
    objects: Objects
    elements: Elements
    agents: Agents
    announcements: Announcements


def commands(means: Means, client: Client, lease: Lease, presences: Presences, start: StartDirectly) -> Commands:
    """Returns the services, each with what it needs."""
    store = BlueprintStore(client, means.log.publisher)
    blueprints = Blueprints(means.world)
    objects = Objects(means, client, store)
    return Commands(
        orders=Orders(means, blueprints, store, start),
        firings=Firings(means, FiringPlans(means.world, blueprints), start),
        objects=objects,
        elements=Elements(means),
        agents=Agents(means, objects, client, lease, presences),
        announcements=Announcements(means),
    )
