"""The `Mesh` of a source: it fires for the trigger, and reads Muster's own events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

import msgspec
import structlog
from msgspec.structs import replace
from nats.aio.client import Client

from muster.blueprints.provider import Happening
from muster.mesh.errors import MusterError, NotFoundError
from muster.mesh.firing import FireReply, FireRequest
from muster.mesh.names import new_id
from muster.triggers.definitions import Definitions, Trigger
from muster.triggers.events import Events, Reader
from muster.triggers.fire import Fire, insist
from muster.triggers.kinds import matcher, on_record

log = structlog.get_logger()

RETRY_DELAY: Final = 0.5

KEPT: Final = ("provider", "kind", "id", "time", "subject")
"""The fields that are recorded for an event that a broker refuses, for example because of its size."""


class Desk(msgspec.Struct, frozen=True, kw_only=True):
    """The objects that all sources of a service share."""

    client: Client
    definitions: Definitions
    events: Events
    fire: Fire


class SourceMesh:
    """Implements `Mesh` of blueprints/provider.py.  It survives a failure of the source, and unrelated changes."""

    def __init__(self, desk: Desk, trigger: Trigger, at_once: int = 1) -> None:
        self.definition = trigger
        self._desk = desk
        self._room = asyncio.Semaphore(at_once)
        self._readers: dict[tuple[str, ...], Reader] = {}
        self._closed = False
        self.on_listening: Callable[[], None] | None = None

    @property
    def client(self) -> Client:
        """Returns the connection to NATS."""
        return self._desk.client

    @property
    def trigger(self) -> str:
        """Returns the name of the trigger."""
        return self.definition.name

    @property
    def changed_at(self) -> datetime:
        """Returns when the trigger was enabled with its current settings."""
        return self.definition.active_at

    async def fire(self, happening: Happening) -> FireReply:
        """Fires, and retries until a broker accepts the event.

        Raises:
            NotFoundError: the trigger was deleted, or no longer belongs to this source.
        """
        self.listening()
        request = FireRequest(
            trigger=self.trigger,
            event=happening.event,
            key=happening.key or new_id(),
            version=self.definition.version,
            depth=happening.depth,
            rejected=happening.rejected,
            try_again=happening.try_again,
        )
        async with self._room:
            while True:
                reply = await self._taken(request)
                if not reply.stale:
                    return reply
                await self._refresh()
                if self.definition.version == request.version:  # the broker that answered is behind the others
                    await asyncio.sleep(RETRY_DELAY)
                request = replace(request, version=self.definition.version)

    async def _taken(self, request: FireRequest) -> FireReply:
        if self._closed:
            raise NotFoundError(f"trigger {self.trigger!r} no longer listens here")
        try:
            return await insist(self._desk.fire, request)
        except NotFoundError:
            await self._refresh()
            raise
        except Exception as error:  # an event that cannot be written must not block later ones
            kept = {name: request.event[name] for name in KEPT if isinstance(request.event.get(name), str)}
            if kept == request.event:
                raise
            why = error.detail if isinstance(error, MusterError) else repr(error)
            log.warning("event.refused", trigger=request.trigger, why=why)
            return await insist(self._desk.fire, replace(request, event=kept, rejected=request.rejected or why))

    async def _refresh(self) -> None:
        """Updates the definition; a change that concerns the source stops it."""
        with suppress(MusterError):  # a deletion was reported already; a failure shows at the next firing
            await self._desk.definitions.refreshed(self.trigger)

    def events(self, kinds: tuple[str, ...]) -> AsyncIterator[Any]:
        """Yields Muster's own events; an event that was not handled when the source failed is repeated."""
        if kinds not in self._readers:
            reader = self._readers[kinds] = Reader(on_record(kinds), matcher(kinds), self.changed_at)
            self._desk.events.open(reader)
        return aiter(self._readers[kinds])

    def listening(self) -> None:
        """Marks the source as listening."""
        if self.on_listening is not None:
            self.on_listening()

    def close(self) -> None:
        """Stops reading events for the trigger."""
        self._closed = True
        for reader in self._readers.values():
            self._desk.events.close(reader)
        self._readers.clear()
