"""Elects the broker that does the side effects: a key with a time to live, renewed by compare-and-set.

Two leaders for a moment do no harm: every effect is idempotent (message ids, compare-and-set), and a new leader
derives it again from the state, so a crash loses none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import nats.errors
import structlog
from nats.aio.client import Client
from nats.js.api import KeyValueConfig, StorageType
from nats.js.errors import BadRequestError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue

from muster.mesh.names import LEADER_BUCKET
from muster.mesh.service import Service

log = structlog.get_logger()

TERM = timedelta(seconds=3)
"""How long the others wait for a leader that died."""

_KEY = "leader"


class Leader(Service):
    """Tries to become the leader, renews its term, and notifies when it is elected."""

    def __init__(self, client: Client, broker: str, replicas: int = 1) -> None:
        super().__init__()
        self._client = client
        self._broker = broker.encode()
        self._replicas = replicas
        self._bucket: KeyValue | None = None
        self._revision: int | None = None
        self._until = 0.0
        """When our term may have ended, in the loop's time; 0 if we have none."""
        self._loop = asyncio.get_running_loop()
        self.on_elected: list[Callable[[], None]] = []

    @property
    def leads(self) -> bool:
        """Whether this broker does the side effects now; false once its term may have ended."""
        return self._loop.time() < self._until

    async def run(self) -> None:
        """Campaigns until cancelled; a leader that stops gives the key back."""
        pause = TERM.total_seconds() / 3
        try:
            while True:
                await self._campaign()
                self.ready.set()
                await asyncio.sleep(pause)
        finally:
            await self._resign()

    async def _resign(self) -> None:
        revision = self._revision
        self._lose()
        if revision is not None and self._bucket is not None and self._client.is_connected:
            with suppress(nats.errors.Error, OSError):  # then the term ends by itself
                await self._bucket.delete(_KEY, last=revision)

    async def _campaign(self) -> None:
        asked = self._loop.time()
        try:
            bucket = self._bucket = self._bucket or await self._made()
            if self._revision is None:
                self._revision = await bucket.create(_KEY, self._broker)
                log.info("leader.elected", broker=self._broker.decode())
                self._lead_from(asked)
            else:
                self._revision = await bucket.update(_KEY, self._broker, last=self._revision)
                self._lead_from(asked)
        except KeyWrongLastSequenceError:
            if self._revision is not None:
                log.warning("leader.replaced", broker=self._broker.decode())
            self._lose()
        except (nats.errors.Error, OSError) as error:
            log.debug("leader.waits", error=repr(error))
            self._bucket = None  # it is in memory: a server that restarted has lost it
            if not self.leads:
                self._lose()

    def _lead_from(self, asked: float) -> None:
        """Starts a term at the time of the request; whoever listens checks what changed while nobody led."""
        led = self.leads
        self._until = asked + TERM.total_seconds()
        if not led:
            for notify in self.on_elected:
                notify()

    def _lose(self) -> None:
        self._revision, self._until = None, 0.0

    async def _made(self) -> KeyValue:
        js = self._client.jetstream()
        config = KeyValueConfig(
            bucket=LEADER_BUCKET, ttl=TERM.total_seconds(), storage=StorageType.MEMORY, replicas=self._replicas
        )
        try:
            return await js.create_key_value(config)
        except BadRequestError:
            return await js.key_value(LEADER_BUCKET)
