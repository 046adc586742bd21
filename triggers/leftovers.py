"""Notes of what sources create elsewhere, such as a consumer, so that it is deleted with the trigger.

A note survives every trigger service.  If a trigger is deleted while no service runs, the next service cleans up.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
import structlog
from nats.aio.client import Client
from nats.js.errors import KeyNotFoundError, NoKeysError
from nats.js.kv import KeyValue

from muster.blueprints.provider import Mesh, Source, provider_kinds
from muster.mesh import names
from muster.mesh.structs import Wire

log = structlog.get_logger()

PREFIX: Final = "source."
"""The prefix of the keys in `names.CURSOR_BUCKET`."""


class Note(Wire):
    """The settings that a source ran with."""

    provider: str
    settings: dict[str, Any]

    def source(self) -> Source | None:
        """Returns the source; None if its provider is not installed or rejects these settings."""
        kind = provider_kinds().get(self.provider)
        if kind is None or not issubclass(kind, Source):
            return None
        try:
            return msgspec.convert(self.settings, kind)
        except msgspec.ValidationError:
            return None

    def leaves_the_same(self, other: Note) -> bool:
        """Returns whether the source of another note uses the same resources."""
        here, there = self.source(), other.source()
        if here is None or there is None or self.provider != other.provider:
            return False
        return here.leaves() == there.leaves()


def leaves_something(source: Source) -> bool:
    """Returns whether a source creates anything that must be cleaned up."""
    return type(source).forget is not Source.forget


class Leftovers:
    """The notes of all sources."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def note(self, provider: str, source: Source, mesh: Mesh) -> None:
        """Writes the note of a source before it runs; cleans up what it created with other settings."""
        bucket, key = await self._bucket(), _key(mesh.trigger)
        note = Note(provider=provider, settings=msgspec.to_builtins(source))
        before = await _read(bucket, key)
        if before == note:
            return
        if before is not None and not before.leaves_the_same(note):
            await _forget(before, mesh)
        await bucket.put(key, msgspec.json.encode(note))

    async def clear(self, mesh: Mesh) -> None:
        """Cleans up after the end of a source."""
        bucket, key = await self._bucket(), _key(mesh.trigger)
        note = await _read(bucket, key)
        if note is not None:
            await _forget(note, mesh)
            await bucket.delete(key)

    async def triggers(self) -> list[str]:
        """Returns every trigger that has a note."""
        try:
            keys = await (await self._bucket()).keys()
        except NoKeysError:
            return []
        return [names.untoken(key.removeprefix(PREFIX)) for key in keys if key.startswith(PREFIX)]

    async def _bucket(self) -> KeyValue:
        return await self._client.jetstream(timeout=5).key_value(names.CURSOR_BUCKET)


def _key(trigger: str) -> str:
    return f"{PREFIX}{names.key(trigger)}"


async def _read(bucket: KeyValue, key: str) -> Note | None:
    try:
        entry = await bucket.get(key)
        return msgspec.json.decode(entry.value or b"", type=Note)
    except (KeyNotFoundError, msgspec.MsgspecError):
        return None


async def _forget(note: Note, mesh: Mesh) -> None:
    source = note.source()
    if source is None:
        log.warning("source.left", trigger=mesh.trigger, provider=note.provider, why="its provider is not installed")
        return
    await source.forget(mesh)
