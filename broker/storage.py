"""Whether the streams store what is written: asked every few seconds, because there may be no writes that show it."""

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

CHECK_INTERVAL: Final = 3.0
"""Seconds between two checks of all streams."""

STREAMS: Final = (
    names.LOG_STREAM,
    names.WORK_STREAM,
    names.OUTPUT_STREAM,
    names.INBOX_STREAM,
    *map(names.bucket_stream, (names.BLUEPRINT_BUCKET, names.ASSIGNMENT_BUCKET, names.TRIGGER_BUCKET)),
)


def note(event: str, error: BaseException, **about: object) -> None:
    """Logs that something could not be stored; quietly while nothing can be, which `Storage` logs once."""
    if isinstance(error, StorageError):
        log.debug(event, error=str(error), **about)
    else:
        log.warning(event, error=str(error), **about)


class Storage(Service):
    """Knows whether the streams store what is written, and why not."""

    def __init__(self, client: Client, publisher: Publisher) -> None:
        super().__init__()
        self._client = client
        self._publisher = publisher
        self._loop = asyncio.get_running_loop()
        self._heard = float("-inf")
        """When a server last reported a full disk, in the loop's time."""
        self._stuck = ""
        self._was_full = False
        """Whether the disk was full when the server was last reached."""

    @property
    def trouble(self) -> str:
        """Why nothing can be stored now; empty if it can be, as far as is known."""
        if self._stuck:
            return self._stuck
        if self._loop.time() - self._heard < CHECK_INTERVAL:
            return storing.FULL
        if self._client.is_connected:
            return ""
        return f"the NATS server is offline; when last seen, there was {storing.FULL}" if self._was_full else ""

    async def run(self) -> None:
        """Listens and checks until cancelled."""
        subscription = await subscribe(self._client, names.DISK_FULL, self._hear)
        self.ready.set()
        try:
            while True:
                if self._client.is_connected:
                    self._note(await self._asked())
                    self._was_full = bool(self.trouble)
                await asyncio.sleep(CHECK_INTERVAL)
        finally:
            await unsubscribe(subscription)

    def _hear(self, _: Msg) -> None:
        """Notes a report of a full disk: who runs the server watches its disk, a stream only notices when it writes."""
        self._heard, self._was_full = self._loop.time(), True

    async def _asked(self) -> str:
        for stream in STREAMS:
            try:
                await self._publisher.ask_why(stream)
            except StorageError as error:
                return error.detail
            except UnavailableError:  # no such message, as it should be; or no answer, which others report
                continue
        return ""

    def _note(self, trouble: str) -> None:
        if trouble and not self._stuck:
            log.error("storage.stuck", why=trouble)
        elif self._stuck and not trouble:
            log.info("storage.recovered")
        self._stuck = trouble
