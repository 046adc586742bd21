"""A packet becomes ours: `Claimed`, written by compare-and-set on the order's last record.

Whoever is faster wins.  If the order has moved on since it was released (an attempt was lost, it was
cancelled), the broker is asked what is to be done with the message: it is dropped, for a fresh one comes if
the order is still to be run.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, NamedTuple

import msgspec
import nats.errors
import structlog
from nats.aio.msg import Msg

from muster.agent.lease import Delivery
from muster.agent.plan import Plan
from muster.agent.workshop import Workshop, write
from muster.mesh import names, records
from muster.mesh.errors import InvalidError, NotFoundError, Problem, UnavailableError
from muster.mesh.jetstream import LostRaceError, compare_and_set
from muster.mesh.model import Assignment, Packet, ResumeReply, ResumeRequest

log = structlog.get_logger()

ASK_AGAIN = 1.0
"""Seconds until a message comes again for which the broker could not be asked."""


class Claim(msgspec.Struct, frozen=True):
    """It is ours: run it."""

    packet: Packet
    plan: Plan
    problems: tuple[Problem, ...] = ()
    """What makes it impossible here; the order fails."""


class Drop(msgspec.Struct, frozen=True):
    """It is not ours: forget the message."""


class Wait(msgspec.Struct, frozen=True):
    """Not now: the message shall come again."""

    seconds: float


SEQUENCE = "Nats-Sequence"
"""The header in which the server says where on the log a record stands that it passes on."""

_Sequence = Annotated[int, msgspec.Meta(ge=1)]
_packet = msgspec.json.Decoder(Packet)
_first = msgspec.json.Decoder(records.Created | records.Fired)
_reply = msgspec.json.Decoder(ResumeReply)
_DROP = Drop()


def read(delivery: Delivery) -> Packet:
    """The packet of a work message.

    Raises:
        msgspec.MsgspecError: it is none.
    """
    return delivery.packet or _packet.decode(delivery.message.data)


class Begun(NamedTuple):
    """What the first record of an order says that runs already."""

    packet: Packet
    agent: str
    beat: float


def begun(message: Msg) -> Begun:
    """The record that began an order, as the server passed it on.

    Raises:
        msgspec.MsgspecError: it is none, or the server does not say where it stands on the log.
    """
    record: records.Created | records.Fired = _first.decode(message.data)
    stands_at = msgspec.convert((message.headers or {}).get(SEQUENCE, ""), _Sequence, strict=False)
    packet = Packet(
        order=record.about,
        attempt=1,
        rev=stands_at,
        blueprint=record.blueprint,
        digest=record.digest,
        inputs=record.inputs,
        sources=record.sources,
        element=record.begins_on,
        labels=record.labels,
        depth=record.depth if isinstance(record, records.Created) else 0,
    )
    return Begun(packet, record.agent or "", record.beat)


async def claim(shop: Workshop, delivery: Delivery, packet: Packet, assignment: Assignment) -> Claim | Drop | Wait:
    """Try to make the order ours."""
    plan = shop.shelf.get(packet.digest)
    if plan is None:
        try:
            plan = await shop.shelf.fetch(packet.digest)
        except (UnavailableError, NotFoundError) as error:  # not there: another broker may still be writing it
            log.warning("blueprint.missing", order=packet.order, error=str(error))
            return Wait(ASK_AGAIN)
    if delivery.is_begun:
        return Claim(packet, plan)
    try:
        return await _claim(shop, delivery, packet, assignment, plan)
    except LostRaceError:
        return await _ask(shop, packet, assignment.element)


async def _claim(
    shop: Workshop, delivery: Delivery, packet: Packet, assignment: Assignment, plan: Plan
) -> Claim | Wait:
    problems: tuple[Problem, ...] = ()
    is_changed = False
    if packet.pool is not None and plan.blueprint.inputs:
        packet, problems, is_changed = _with_params(packet, assignment, plan)
    record = records.Claimed(
        order=packet.order,
        attempt=packet.attempt,
        element=assignment.element,
        agent=shop.agent,
        inputs=packet.inputs if is_changed else None,
        sources=packet.sources if is_changed else None,
    )
    only_if = compare_and_set(names.log_of("order", packet.order), packet.rev)
    ack = await write(shop, record, assignment.element, lambda: not delivery.is_lost, only_if)
    return Wait(0) if ack is None else Claim(packet, plan, problems)


def _with_params(packet: Packet, assignment: Assignment, plan: Plan) -> tuple[Packet, tuple[Problem, ...], bool]:
    """A pool's order has no element until now: its claimer's params are inputs where the order gave none."""
    from muster.blueprints.resolve import resolve, validate

    given = {name: value for name, value in packet.inputs.items() if _is_given(packet.sources.get(name, "order"))}
    try:
        resolved = resolve(plan.blueprint, given, assignment.params, assignment.sources)
        problems = tuple(validate(plan.blueprint, resolved.inputs))
    except InvalidError as error:
        return packet, error.problems or (Problem(message=error.detail),), False
    sources = {**resolved.sources, **{name: packet.sources.get(name, "order") for name in given}}
    if resolved.inputs == packet.inputs and sources == packet.sources:
        return packet, problems, False
    return msgspec.structs.replace(packet, inputs=dict(resolved.inputs), sources=sources), problems, True


def _is_given(source: str) -> bool:
    return source.partition(":")[0] in {"order", "trigger"}


async def give_up(shop: Workshop, packet: Packet, element: str, *, declined: bool = False) -> None:
    """Tell the broker that we hold an order no longer, until it has heard so.

    Its message may go to another member of the pool, who cannot know whether we still run it.
    """
    while isinstance(await _ask(shop, packet, element, declined=declined), Wait):  # noqa: ASYNC110 - it asks each time
        await asyncio.sleep(ASK_AGAIN)


async def _ask(shop: Workshop, packet: Packet, element: str, *, declined: bool = False) -> Drop | Wait:
    asked = ResumeRequest(
        order=packet.order, attempt=packet.attempt, element=element, agent=shop.agent, declined=declined
    )
    request = msgspec.json.encode(asked)
    try:
        answer = await shop.client.request(names.agent(element, "resume"), request, timeout=5)
        reply = _reply.decode(answer.data)
    except (nats.errors.Error, TimeoutError, msgspec.MsgspecError):  # no broker just now, or it gave an error
        return Wait(ASK_AGAIN)
    return _DROP if reply.drop else Wait(ASK_AGAIN)
