"""Whether the streams take what is written: asked every few seconds, for nobody may be writing."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from muster.mesh import names, storing
from muster.mesh.errors import StorageError, UnavailableError
from muster.mesh.jetstream import Publisher
from muster.mesh.service import Service
from muster.mesh.wire import subscribe, unsubscribe

log = structlog.get_logger()

EVERY: Final = 3.0
"""Seconds between two rounds of questions."""

STREAMS: Final = (
    names.LOG_STREAM,
    names.WORK_STREAM,
    names.OUTPUT_STREAM,
    names.INBOX_STREAM,
    *map(names.bucket_stream, (names.BLUEPRINT_BUCKET, names.ASSIGNMENT_BUCKET, names.TRIGGER_BUCKET)),
)


def note(event: str, error: BaseException, **about: object) -> None:
    """Log that something could not be stored; not each time when nothing can be, which `Storage` says once."""
    if isinstance(error, StorageError):
        log.debug(event, error=str(error), **about)
    else:
        log.warning(event, error=str(error), **about)


class Storage(Service):
    """Knows why nothing can be stored, while that is so."""

    def __init__(self, client: Client, publisher: Publisher) -> None:
        super().__init__()
        self._client = client
        self._publisher = publisher
        self._loop = asyncio.get_running_loop()
        self._heard = float("-inf")
        """When it was last said that the disk is full, in the loop's time."""
        self._stuck = ""
        self._was_full = False
        """Whether that was so when the server was last seen."""

    @property
    def trouble(self) -> str:
        """Why nothing can be stored just now; empty if it can be, as far as is known."""
        if self._stuck:
            return self._stuck
        if self._loop.time() - self._heard < EVERY:
            return storing.FULL
        if self._client.is_connected:
            return ""
        return f"the NATS server is offline; when last seen, there was {storing.FULL}" if self._was_full else ""

    async def run(self) -> None:
        """Listen and ask until cancelled."""
        subscription = await subscribe(self._client, names.DISK_FULL, self._hear)
        self.ready.set()
        try:
            while True:
                if self._client.is_connected:
                    self._note(await self._asked())
                    self._was_full = bool(self.trouble)
                await asyncio.sleep(EVERY)
        finally:
            await unsubscribe(subscription)

    def _hear(self, _: Msg) -> None:
        """Whoever runs the server looks at its disk; a stream only knows once it has tried to write."""
        self._heard, self._was_full = self._loop.time(), True

    async def _asked(self) -> str:
        for stream in STREAMS:
            try:
                await self._publisher.ask_why(stream)
            except StorageError as error:
                return error.detail
            except UnavailableError:  # it has no such message, as it should be, or does not answer, which others say
                continue
        return ""

    def _note(self, trouble: str) -> None:
        if trouble and not self._stuck:
            log.error("storage.stuck", why=trouble)
        elif self._stuck and not trouble:
            log.info("storage.recovered")
        self._stuck = trouble
