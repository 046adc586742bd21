"""Tells brokers which triggers cannot work here, so that whoever looks at one is shown why."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import islice
from socket import gethostname

import msgspec
from nats.aio.client import Client

from muster.mesh import names
from muster.mesh.errors import UnavailableError
from muster.mesh.firing import MOST_TROUBLES, TROUBLES_EVERY, Troubles
from muster.mesh.service import Service
from muster.mesh.wire import post

LOOK = 0.5
"""Seconds until a change is noticed."""

LONGEST = 300
"""Characters of a reason."""


class Reports(Service):
    """Publishes them when they change, and again and again while there are any."""

    def __init__(self, client: Client, troubles: Callable[[], Mapping[str, str]]) -> None:
        super().__init__()
        self._client = client
        self._troubles = troubles
        self._id = names.new_id()

    async def run(self) -> None:
        """Publish until cancelled; then there is nothing to tell any more."""
        self.ready.set()
        loop = asyncio.get_running_loop()
        told: dict[str, str] = {}
        told_at = loop.time()
        try:
            while True:
                found = {name: why[:LONGEST] for name, why in islice(self._troubles().items(), MOST_TROUBLES)}
                if found != told or (found and loop.time() - told_at >= TROUBLES_EVERY):
                    self._publish(found)
                    told, told_at = found, loop.time()
                await asyncio.sleep(LOOK)
        finally:
            if told:
                self._publish({})

    def _publish(self, found: dict[str, str]) -> None:
        report = msgspec.json.encode(Troubles(host=gethostname(), reasons=found))
        with suppress(UnavailableError):  # it is published again
            post(self._client, names.trouble(self._id), report)
