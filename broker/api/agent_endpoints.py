"""The table of `muster.agent.<element>.<verb>`: what agents ask for, each by its element's own subjects.

A subject is what NATS permissions hold an agent to, so it says who asks; a body that says otherwise is refused.
"""

from __future__ import annotations

from typing import Final

import msgspec
from nats.aio.msg import Msg

from muster.broker.api.context import Api, idempotency_key
from muster.broker.api.decode import decode
from muster.broker.api.endpoint import Endpoint, endpoint
from muster.broker.api.views import OrdersView
from muster.mesh import names
from muster.mesh.caller import Caller, CallerKind
from muster.mesh.errors import MALFORMED, ForbiddenError, InvalidError
from muster.mesh.jetstream import MSG_ID
from muster.mesh.model import JoinRequest, Order, OrderRequest, ResumeReply, ResumeRequest, Welcome, Wire
from muster.mesh.version import speaker


class Gone(Wire):
    """The answer where there is nothing more to say."""

    done: bool = True


class _Asker(msgspec.Struct, frozen=True):
    """Who asks, in whichever version."""

    element: str = ""
    agent: str = ""


def _caller(request: Msg) -> Caller:
    return Caller(kind=CallerKind.AGENT, name=names.agent_of(request.subject), door="nats")


def _asker(request: Msg, element: str) -> Caller:
    """The agent that asks: the subject says which.

    Raises:
        ForbiddenError: the body names another element.
    """
    asker = _caller(request)
    if element != asker.name:
        raise ForbiddenError(f"the agent of {asker.name} may not ask for {element}")
    return asker


async def join(api: Api, request: Msg) -> Welcome:
    """An agent acts for its element from now on."""
    _must_fit(api, request)
    wanted = decode(JoinRequest, request.data)
    return await api.commands.agents.join(wanted, by=_asker(request, wanted.element))


async def join_of_before(api: Api, request: Msg) -> Welcome:
    """Refused: where agents of protocol 1 ask."""
    _must_fit(api, request)
    raise InvalidError(f"an agent joins by `{names.agent('NAME', 'join')}`")


def _must_fit(api: Api, request: Msg) -> None:
    """Whoever does not fit is refused before its request is read: that may be of another shape."""
    try:
        asker = msgspec.json.decode(request.data, type=_Asker)
        api.commands.agents.must_fit(asker.element, asker.agent, speaker(request.data))
    except MALFORMED as error:
        raise InvalidError(f"the request is not valid: {error}") from None


async def leave(api: Api, request: Msg) -> Gone:
    """An agent does not act for its element any more."""
    wanted = decode(JoinRequest, request.data)
    await api.commands.agents.leave(wanted, by=_asker(request, wanted.element))
    return Gone()


async def resume(api: Api, request: Msg) -> ResumeReply:
    """An agent whose claim was refused, or that gives an order up, asks what to do."""
    wanted = decode(ResumeRequest, request.data)
    return await api.commands.orders.resume(wanted, by=_asker(request, wanted.element))


async def create(api: Api, request: Msg) -> list[Order]:
    """Make child orders of an order that the asker's element runs."""
    wanted = decode(OrderRequest, request.data)
    key = idempotency_key((request.headers or {}).get(MSG_ID))
    return await api.commands.orders.create_children(wanted, by=_caller(request), key=key)


def _view(orders: list[Order]) -> OrdersView:
    return OrdersView(orders=orders)


ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    endpoint("agent", "join", join),
    endpoint("agent", "leave", leave),
    endpoint("agent", "resume", resume),
    endpoint("agent", "create", create, _view),
    endpoint("elements", "join", join_of_before),
)
