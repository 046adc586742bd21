"""A packet becomes ours: `Claimed`, written by compare-and-set on the order's last record.

The first claim wins.  If the order has moved on since it was released (an attempt was lost, it was
cancelled), the broker is asked what is to be done with the message: it is dropped, for a fresh one comes if
the order is still to be run.
"""

from __future__ import annotations

import msgspec
import structlog

from muster.agent.attempt import Attempt
from muster.agent.plan import Plan
from muster.agent.resume import resume
from muster.agent.start import is_direct, rev
from muster.agent.workshop import write
from muster.mesh import names, records
from muster.mesh.errors import InvalidError, NotFoundError, Problem, UnavailableError
from muster.mesh.jetstream import LostRaceError, compare_and_set
from muster.mesh.messages import Assignment, Packet, ResumeRequest

log = structlog.get_logger()

RETRY_DELAY = 1.0
"""Seconds until a message is delivered again for which the broker could not be asked."""


class Claim(msgspec.Struct, frozen=True):
    """It is ours: run it."""

    packet: Packet
    plan: Plan
    problems: tuple[Problem, ...] = ()
    """What makes it impossible here; the order fails."""


class Drop(msgspec.Struct, frozen=True):
    """It is not ours: forget the message."""


class Wait(msgspec.Struct, frozen=True):
    """Not now: the message is to be delivered again."""

    seconds: float


async def claim(attempt: Attempt) -> Claim | Drop | Wait:
    """Tries to make the order ours; a direct start is."""
    shop, packet = attempt.shop, attempt.packet
    plan = shop.shelf.get(packet.digest)
    if plan is None:
        try:
            plan = await shop.shelf.fetch(packet.digest)
        except (UnavailableError, NotFoundError) as error:  # not there: another broker may still be writing it
            log.warning("blueprint.missing", order=packet.order, error=str(error))
            return Wait(RETRY_DELAY)
    if is_direct(packet):
        return Claim(packet, plan)
    try:
        return await _claim(attempt, plan)
    except LostRaceError:
        request = ResumeRequest(
            order=packet.order, attempt=packet.attempt, element=attempt.assignment.element, agent=shop.agent
        )
        return Drop() if await resume(shop.client, request) else Wait(RETRY_DELAY)


async def _claim(attempt: Attempt, plan: Plan) -> Claim | Wait:
    shop, packet, assignment = attempt.shop, attempt.packet, attempt.assignment
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
    only_if = compare_and_set(names.log_of("order", packet.order), rev(packet))
    ack = await write(shop, record, assignment.element, lambda: attempt.is_ours, only_if)
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
