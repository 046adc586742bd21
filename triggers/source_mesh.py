"""What a source is given: firing for its trigger, and Muster's own events."""

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

AGAIN: Final = 0.5

KEPT: Final = ("provider", "kind", "id", "time", "subject")
"""What is put on the log of an event that a broker does not take (it is too large, say)."""


class Desk(msgspec.Struct, frozen=True, kw_only=True):
    """What all sources of a service share."""

    client: Client
    definitions: Definitions
    events: Events
    fire: Fire


class SourceMesh:
    """The `Mesh` of blueprints/provider.py.  It outlives a source that fails, and a change that does not concern it."""

    def __init__(self, desk: Desk, trigger: Trigger, at_once: int = 1) -> None:
        self.definition = trigger
        self._desk = desk
        self._room = asyncio.Semaphore(at_once)
        self._readers: dict[tuple[str, ...], Reader] = {}
        self._closed = False
        self.on_listening: Callable[[], None] | None = None

    @property
    def client(self) -> Client:
        """The connection to NATS."""
        return self._desk.client

    @property
    def trigger(self) -> str:
        """The trigger's name."""
        return self.definition.name

    @property
    def changed_at(self) -> datetime:
        """When the trigger was enabled with its present settings."""
        return self.definition.active_at

    async def fire(self, happening: Happening) -> FireReply:
        """Hand an event over, and try until it is taken.

        Raises:
            NotFoundError: the trigger is gone, or is not this source's any more.
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
                await self._look_again()
                if self.definition.version == request.version:  # a broker that is behind the others has answered
                    await asyncio.sleep(AGAIN)
                request = replace(request, version=self.definition.version)

    async def _taken(self, request: FireRequest) -> FireReply:
        if self._closed:
            raise NotFoundError(f"trigger {self.trigger!r} does not listen here any more")
        try:
            return await insist(self._desk.fire, request)
        except NotFoundError:
            await self._look_again()
            raise
        except Exception as error:  # an event that cannot even be written may not hold up those behind it
            kept = {name: request.event[name] for name in KEPT if isinstance(request.event.get(name), str)}
            if kept == request.event:
                raise
            why = error.detail if isinstance(error, MusterError) else repr(error)
            log.warning("event.refused", trigger=request.trigger, why=why)
            return await insist(self._desk.fire, replace(request, event=kept, rejected=request.rejected or why))

    async def _look_again(self) -> None:
        """Bring the definition up to date; if the change concerns the source, it is stopped by that."""
        with suppress(MusterError):  # it is gone, which was told; or nobody answers, which shows when it fires
            await self._desk.definitions.refreshed(self.trigger)

    def events(self, kinds: tuple[str, ...]) -> AsyncIterator[Any]:
        """Muster's own events; one that was not dealt with when the source failed comes again."""
        if kinds not in self._readers:
            reader = self._readers[kinds] = Reader(on_record(kinds), matcher(kinds), self.changed_at)
            self._desk.events.open(reader)
        return aiter(self._readers[kinds])

    def listening(self) -> None:
        """It listens now."""
        if self.on_listening is not None:
            self.on_listening()

    def close(self) -> None:
        """The trigger does not run here any more."""
        self._closed = True
        for reader in self._readers.values():
            self._desk.events.close(reader)
        self._readers.clear()
