"""Watches the disk under an embedded server: when the server must restart, and how much output it may keep."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import nats.errors
import structlog
from nats.aio.client import Client
from nats.js.errors import APIError, NotFoundError

from muster.mesh import disk, names, storing
from muster.mesh.jetstream_api import ask, change_stream

log = structlog.get_logger()

CHECK_INTERVAL: Final = 1.0
"""Seconds between two checks of the free space."""

CHECKS_PER_QUESTION: Final = 10
"""Checks before the server is asked as well, if the disk was never full since it started."""

ANSWER_TIMEOUT: Final = 5.0
"""Seconds for a stream to say why it stores nothing."""

RESTART_DELAYS: Final = (0.0, 5.0, 20.0)
"""Seconds that a server runs at least before its first, its second, and every further restart."""

RESTARTS_FORGOTTEN_AFTER: Final = 120.0
"""Seconds without a restart before the next one counts as the first."""


class Pause:
    """Spaces the restarts of a server, in case they do not help (a quota, another writer)."""

    def __init__(self) -> None:
        self._count = 0
        self._last = float("-inf")

    def is_over(self, now: float) -> bool:
        """Whether the server may be restarted now."""
        if now - self._last > RESTARTS_FORGOTTEN_AFTER:
            self._count = 0
        return now - self._last >= RESTART_DELAYS[min(self._count, len(RESTART_DELAYS) - 1)]

    def begin(self, now: float) -> None:
        """Counts a restart."""
        self._count, self._last = self._count + 1, now


class DiskWatch:
    """Watches one run of a server; `until_restart` returns why it must restart."""

    def __init__(
        self, store: Path, limit: int, pause: Pause, connect: Callable[[], Awaitable[Client]], *, free: int
    ) -> None:
        self._store = store
        self._limit = limit
        """The bytes that the server may use."""
        self._free_then = free
        """The bytes that were free when the limit was chosen."""
        self._pause = pause
        self._connect = connect
        self._is_short = False
        self._was_short = False
        self._loop = asyncio.get_running_loop()

    async def until_restart(self) -> str:
        """Watches until the server must restart; returns why."""
        while True:
            try:
                client = await self._connect()
                try:
                    return await self._watched(client)
                finally:
                    await client.close()
            except (OSError, TimeoutError, nats.errors.Error) as error:
                log.debug("disk.unwatched", error=repr(error))
            except Exception:  # the server serves all the same
                log.exception("disk.unwatched")
            await asyncio.sleep(CHECK_INTERVAL)

    async def fit_output(self, client: Client) -> None:
        """Gives task output its share of the disk, and no more than the mesh's settings say."""
        try:
            info = await ask(client, f"STREAM.INFO.{names.OUTPUT_STREAM}")
        except NotFoundError:  # no broker has created it yet
            return
        current = int(info["config"]["max_bytes"])
        most = disk.wanted_output(info["config"])
        wanted = disk.output_share(int(info["state"]["bytes"]), disk.space(self._store).free, most)
        if 0 < current <= most and not disk.is_far(wanted, current):
            return
        try:
            await change_stream(client, info["config"], {"max_bytes": wanted})
        except APIError as error:
            log.debug("output.unfitted", wanted=disk.size(wanted), error=error.description)
        else:
            log.info("output.fitted", bytes=wanted, size=disk.size(wanted), before=current)

    async def _watched(self, client: Client) -> str:
        check = 0
        while True:
            free = disk.space(self._store).free
            self._note(free)
            if free < disk.FULL:
                await client.publish(names.DISK_FULL)
            if self._was_short or check % CHECKS_PER_QUESTION == 0:
                why = await self._trouble(client, free)
                if why is not None:
                    return why
            if check % CHECKS_PER_QUESTION == 0 or self._is_short:
                await self.fit_output(client)
            check += 1
            await asyncio.sleep(CHECK_INTERVAL)

    def _note(self, free: int) -> None:
        is_short = free < disk.LEAST
        if is_short and not self._is_short:
            log.warning("disk.full", folder=str(self._store), free=disk.size(free), needed=disk.size(disk.LEAST))
        elif self._is_short and not is_short:
            log.info("disk.free_again", folder=str(self._store), free=disk.size(free))
        self._is_short = is_short
        self._was_short = self._was_short or is_short

    async def _trouble(self, client: Client, free: int) -> str | None:
        """Returns why the server must restart, if that helps now."""
        if free < disk.LEAST or not self._pause.is_over(self._loop.time()):
            return None
        for stream in await _streams(client):
            answer = await client.request(storing.where(stream), storing.QUESTION, timeout=ANSWER_TIMEOUT)
            if (stuck := storing.trouble(answer.data)) is not None:
                return f"{stream} stores nothing ({stuck.partition(';')[0]}), and {disk.size(free)} are free"
        stored = int((await ask(client, "INFO")).get("storage", 0))
        if stored < self._limit:
            return None
        limit = disk.limit(await asyncio.to_thread(disk.used, self._store), free)
        if not disk.may_grow(limit, self._limit, self._free_then):
            return None
        return f"JetStream has used its limit of {disk.size(self._limit)}, and {disk.size(free)} are free"


async def _streams(client: Client) -> list[str]:
    found: list[str] = []
    while page := (await ask(client, "STREAM.NAMES", {"offset": len(found)})).get("streams"):
        found += page
    return found
