"""Fires events at a broker: two ways behind one callable, and retries."""

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

FIRE_TIMEOUT: Final = 10.0
"""Seconds to wait for the answer of a broker."""

RETRY_DELAYS: Final = (0.05, 0.2, 0.5, 1.0)
"""Seconds before each retry; the last delay repeats."""


def by_request(requests: Requests) -> Fire:
    """Returns a function that fires by a request to any broker: `muster.api.firings.create`."""

    async def fire(request: FireRequest) -> FireReply:
        return await requests.ask("firings", "create", request, FireReply, within=FIRE_TIMEOUT)

    return fire


async def insist(fire: Fire, request: FireRequest) -> FireReply:
    """Fires, and retries until a broker accepts or refuses the firing.

    The request needs a key, so that a firing whose answer was lost is not made twice.

    Raises:
        NotFoundError: the trigger does not exist or is disabled.
        MusterError: the broker refuses the firing finally.
    """
    if not request.key:
        request = msgspec.structs.replace(request, key=names.new_id())
    tries = 0
    while True:
        try:
            return await fire(request)
        except UnreachableError as error:
            pause = RETRY_DELAYS[min(tries, len(RETRY_DELAYS) - 1)]
            tries += 1
            note = log.warning if tries == len(RETRY_DELAYS) else log.debug
            note("firing.waits", trigger=request.trigger, why=error.detail, again_in=pause)
        await asyncio.sleep(pause)
