"""Handing an event over to a broker: two ways behind one callable, and one way of not giving up."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
import structlog

from muster.mesh import names
from muster.mesh.asking import Requests
from muster.mesh.errors import UnreachableError
from muster.mesh.firing import Fire, FireReply, FireRequest

__all__ = ["Fire", "by_request", "insist"]

log = structlog.get_logger()

PATIENCE: Final = 10.0
"""Seconds that a broker may take for one firing."""

AGAIN: Final = (0.05, 0.2, 0.5, 1.0)
"""Seconds before each next try; the last one from then on."""


def by_request(requests: Requests) -> Fire:
    """Fire by asking whichever broker answers: `muster.api.firings.create`."""

    async def fire(request: FireRequest) -> FireReply:
        return await requests.ask("firings", "create", request, FireReply, within=PATIENCE)

    return fire


async def insist(fire: Fire, request: FireRequest) -> FireReply:
    """Fire, and try again until a broker has taken it or refuses it.

    Repeating needs a key, so that what was taken although the answer was lost is not taken twice.

    Raises:
        NotFoundError: there is no such trigger, or it is disabled.
        MusterError: the broker refuses it for good.
    """
    if not request.key:
        request = msgspec.structs.replace(request, key=names.new_id())
    tries = 0
    while True:
        try:
            return await fire(request)
        except UnreachableError as error:
            pause = AGAIN[min(tries, len(AGAIN) - 1)]
            tries += 1
            note = log.warning if tries == len(AGAIN) else log.debug
            note("firing.waits", trigger=request.trigger, why=error.detail, again_in=pause)
        await asyncio.sleep(pause)
