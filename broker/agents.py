"""What agents may do about their element: join, leave."""

from __future__ import annotations

import time
from typing import NoReturn

import msgspec
import structlog
from msgspec.structs import replace
from nats.aio.client import Client

from muster.blueprints.manifest import load
from muster.broker import consumers
from muster.broker.accepted import accepted
from muster.broker.lease import Lease
from muster.broker.means import Means
from muster.broker.objects import Objects
from muster.broker.presence import Presences
from muster.mesh import names, records
from muster.mesh.caller import Caller
from muster.mesh.errors import InvalidError, Problem, RefusedError, UnavailableError, VersionError
from muster.mesh.messages import Assignment, JoinRequest, Welcome
from muster.mesh.version import Speaker, agent_misfit

log = structlog.get_logger()


class Agents:
    """The write path of agents."""

    def __init__(self, means: Means, objects: Objects, client: Client, lease: Lease, presences: Presences) -> None:
        self._world, self._log, *_ = means
        self._objects, self._client = objects, client
        self._lease, self._presences = lease, presences

    def refuse(self, element: str, agent: str, speaker: Speaker) -> NoReturn:
        """Refuses an agent whose protocol is not ours: it would misread what it is given.

        Raises:
            VersionError: with both versions; whoever asks for the element sees them as well.
        """
        why = agent_misfit(speaker)
        if self._presences.misfits(element, agent, speaker):
            log.warning("agent.refused", element=element, why=why)
        raise VersionError(why)

    async def join(self, request: JoinRequest, *, by: Caller) -> Welcome:
        """Lets an agent act for an element; one that does not exist becomes a machine of that name."""
        return Welcome(assignment=await self._joined(request, by), time=time.time())

    async def _joined(self, request: JoinRequest, by: Caller) -> Assignment:
        element = request.element
        if not names.is_name(element):
            problem = Problem(message=f"{element!r} is not a name", path="element", hint=names.NAME_RULE)
            raise InvalidError("the element's name is not valid", problem)
        if element not in self._world.elements:
            manifest = msgspec.json.encode({"kind": "machine", "name": element}).decode()
            await self._objects.apply(load(manifest), by=by)
        self._may_join(request)
        consumer, subject = names.element_consumer(element), names.work_element(element)
        if self._succeeds(request):  # what its predecessor had fetched comes at once, not when its lease expires
            await consumers.drop(self._client, names.WORK_STREAM, consumer)
        await consumers.create(self._client, names.WORK_STREAM, consumer, subject, self._lease.longer)
        if self._world.elements[element].agent != request.agent:
            joined = records.Joined(element=element, agent=request.agent, place=request.place, by=by)
            accepted(await self._log.append(joined))
        assignment = self._world.fleet.assignment(element)
        if assignment is None:
            raise RefusedError(f"element {element} was deleted just now")
        return replace(assignment, lease=self._lease.shorter.total_seconds())

    def _may_join(self, request: JoinRequest) -> None:
        """Two daemons for one element would run its orders twice as often as it has slots.

        Where the other one is, is not said: whoever joins from there takes over.

        Raises:
            UnavailableError: another one acts for it; the agent retries until that one is gone.
        """
        element = self._world.elements[request.element]
        if element.agent in {None, request.agent} or (element.place and element.place == request.place):
            return
        if self._presences.serves(element.name) == element.agent:
            raise UnavailableError(f"another agent acts for {element.name}; this one waits until that one is gone")

    def _succeeds(self, request: JoinRequest) -> bool:
        """Whether the daemon follows one that died in its place: the place's lock proves that it is dead."""
        element = self._world.elements[request.element]
        return element.agent not in {None, request.agent} and bool(request.place) and element.place == request.place

    async def leave(self, request: JoinRequest, *, by: Caller) -> None:
        """Lets an agent stop acting for its element."""
        record = records.Left(element=request.element, agent=request.agent, reason="it said good-bye", by=by)
        await self._log.append(record)
