"""What agents ask for, each on its element's own subjects: join, leave, resume, make child orders."""

from __future__ import annotations

from typing import Final

import msgspec

from muster.broker.operations.answers import Gone, OrdersView
from muster.broker.operations.decode import decode
from muster.broker.operations.operation import Call, Operation
from muster.mesh import names
from muster.mesh.errors import MALFORMED, InvalidError
from muster.mesh.messages import JoinRequest, ResumeReply, ResumeRequest, Welcome
from muster.mesh.model import OrderRequest
from muster.mesh.version import Speaker, speaker


class _Asker(msgspec.Struct, frozen=True):
    """Who asks, in every version."""

    element: str = ""
    agent: str = ""


class Misfit(msgspec.Struct, frozen=True, kw_only=True):
    """An agent of another protocol asks: what else its request says may be of another shape."""

    element: str
    agent: str
    said: Speaker


def _join_request(data: bytes) -> JoinRequest | Misfit:
    """Whoever does not fit is recognized before its request is read."""
    try:
        asker, said = msgspec.json.decode(data, type=_Asker), speaker(data)
    except MALFORMED as error:
        raise InvalidError(f"the request is not valid: {error}") from None
    return decode(JoinRequest, data) if said.fits else Misfit(element=asker.element, agent=asker.agent, said=said)


async def join(call: Call, request: JoinRequest | Misfit) -> Welcome:
    """Let an agent act for its element."""
    if isinstance(request, Misfit):
        call.services.agents.refuse(request.element, request.agent, request.said)
    return await call.services.agents.join(request, by=call.caller)


async def join_of_protocol_1(call: Call, request: JoinRequest | Misfit) -> Welcome:
    """Refuse: agents of protocol 1 ask here."""
    if isinstance(request, Misfit):
        call.services.agents.refuse(request.element, request.agent, request.said)
    raise InvalidError(f"an agent joins by `{names.agent('NAME', 'join')}`")


async def leave(call: Call, request: JoinRequest) -> Gone:
    """Let an agent stop acting for its element."""
    await call.services.agents.leave(request, by=call.caller)
    return Gone()


async def resume(call: Call, request: ResumeRequest) -> ResumeReply:
    """Say what to do with an order whose claim was refused, or that the agent gives up."""
    return await call.services.orders.resume(request, by=call.caller)


async def create(call: Call, request: OrderRequest) -> OrdersView:
    """Make child orders of an order that the caller's element runs."""
    return OrdersView(orders=await call.services.orders.create_children(request, by=call.caller, key=call.key))


OPERATIONS: Final = (
    Operation(
        name="agent.join",
        summary="Register an agent for its element",
        verb="act",
        kind="element",
        request=JoinRequest,
        answer=Welcome,
        handler=join,
        decoder=_join_request,
    ),
    Operation(
        name="agent.leave",
        summary="Unregister an agent from its element",
        verb="act",
        kind="element",
        request=JoinRequest,
        answer=Gone,
        handler=leave,
    ),
    Operation(
        name="agent.resume",
        summary="Decide what an agent does with an order that it could not claim, or dropped",
        verb="act",
        kind="element",
        request=ResumeRequest,
        answer=ResumeReply,
        handler=resume,
    ),
    Operation(
        name="agent.create",
        summary="Create child orders of an order that the agent's element runs",
        verb="act",
        kind="element",
        request=OrderRequest,
        answer=OrdersView,
        handler=create,
    ),
    Operation(
        name="elements.join",
        summary="Refuse agents of protocol 1",
        verb="act",
        kind="element",
        request=JoinRequest,
        answer=Welcome,
        handler=join_of_protocol_1,
        decoder=_join_request,
    ),
)
