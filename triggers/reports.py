"""Reports triggers that cannot run here to brokers, which show the reason with the trigger."""

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

POLL_INTERVAL = 0.5
"""Seconds between two checks for changes."""

LONGEST = 300
"""Characters of a reason."""


class Reports(Service):
    """Publishes reasons when they change, and periodically while there are any."""

    def __init__(self, client: Client, troubles: Callable[[], Mapping[str, str]]) -> None:
        super().__init__()
        self._client = client
        self._troubles = troubles
        self._id = names.new_id()

    async def run(self) -> None:
        """Publishes until cancelled; then publishes an empty report."""
        self.ready.set()
        loop = asyncio.get_running_loop()
        sent: dict[str, str] = {}
        sent_at = loop.time()
        try:
            while True:
                found = {name: why[:LONGEST] for name, why in islice(self._troubles().items(), MOST_TROUBLES)}
                if found != sent or (found and loop.time() - sent_at >= TROUBLES_EVERY):
                    self._publish(found)
                    sent, sent_at = found, loop.time()
                await asyncio.sleep(POLL_INTERVAL)
        finally:
            if sent:
                self._publish({})

    def _publish(self, found: dict[str, str]) -> None:
        report = msgspec.json.encode(Troubles(host=gethostname(), reasons=found))
        with suppress(UnavailableError):  # it is published again later
            post(self._client, names.trouble(self._id), report)
