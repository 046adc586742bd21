"""What agents may do about their element: join, leave."""

from __future__ import annotations

import time

import msgspec
import structlog

from muster.blueprints.manifest import load
from muster.broker.objects import Objects
from muster.broker.streams import drop_consumer, work_consumer
from muster.mesh import names, records
from muster.mesh.errors import InvalidError, Problem, RefusedError, UnavailableError, VersionError
from muster.mesh.model import Assignment, JoinRequest, Welcome
from muster.mesh.version import Speaker, agent_misfit

log = structlog.get_logger()


class Agents(Objects):
    """The write path of agents."""

    def must_fit(self, element: str, agent: str, speaker: Speaker) -> None:
        """An agent whose protocol is not ours would misread what it is given.

        Raises:
            VersionError: it is such a one; both versions are named, here and wherever the element is looked at.
        """
        if speaker.fits:
            return
        why = agent_misfit(speaker)
        if self._presences.misfits(element, agent, speaker):
            log.warning("agent.refused", element=element, why=why)
        raise VersionError(why)

    async def join(self, request: JoinRequest) -> Welcome:
        """An agent takes up an element; one that does not exist becomes a machine of that name."""
        self.must_fit(request.element, request.agent, Speaker(protocol=request.protocol, version=request.version))
        return Welcome(assignment=await self._joined(request), time=time.time())

    async def _joined(self, request: JoinRequest) -> Assignment:
        element = request.element
        if not names.is_name(element):
            problem = Problem(message=f"{element!r} is no name", path="element", hint=names.NAME_RULE)
            raise InvalidError("the element's name is not valid", problem)
        if element not in self._state.fleet.elements:
            await self.apply(load(msgspec.json.encode({"kind": "machine", "name": element}).decode()), "agent")
        self._may_join(request)
        consumer, subject = names.element_consumer(element), names.work_element(element)
        js = self._client.jetstream()
        if self._succeeds(request):  # what its predecessor had fetched comes at once, not when the lease is over
            await drop_consumer(js, names.WORK_STREAM, consumer)
        await work_consumer(js, names.WORK_STREAM, consumer, subject, self._settings.lease)
        if self._state.fleet.elements[element].agent != request.agent:
            await self._change(records.Joined(element=element, agent=request.agent, place=request.place))
        assignment = self._state.fleet.assignment(element)
        if assignment is None:
            raise RefusedError(f"element {element} was deleted just now")
        return assignment

    def _may_join(self, request: JoinRequest) -> None:
        """Two daemons for one element would run its orders twice as often as it has slots.

        Where the other one is, is not said: whoever joins from there takes over.

        Raises:
            UnavailableError: another one acts for it; the agent asks again until that one is gone.
        """
        element = self._state.fleet.elements[request.element]
        if element.agent in {None, request.agent} or (element.place and element.place == request.place):
            return
        if self._presences.serves(element.name) == element.agent:
            raise UnavailableError(f"another agent acts for {element.name}; this one waits until that one is gone")

    def _succeeds(self, request: JoinRequest) -> bool:
        """Whether the daemon follows one that died in its place: the place's lock tells that it is dead."""
        element = self._state.fleet.elements[request.element]
        return element.agent not in {None, request.agent} and bool(request.place) and element.place == request.place

    async def leave(self, request: JoinRequest) -> None:
        """An agent gives an element up."""
        record = records.Left(element=request.element, agent=request.agent, reason="it said good-bye")
        await self._log.append(record)
