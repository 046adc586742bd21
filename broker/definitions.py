"""The definitions of triggers in their bucket, which trigger services read."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from nats.aio.client import Client

from muster.blueprints.event_fields import headers_read
from muster.blueprints.objects.trigger import Trigger
from muster.broker.mirror import Mirror
from muster.broker.state.element import StoredObject
from muster.broker.state.world import World
from muster.mesh import names
from muster.mesh.bucket import reading
from muster.mesh.firing import Definition
from muster.mesh.jetstream import Publisher

_encode = msgspec.json.Encoder().encode


def definition_of(stored: StoredObject, trigger: Trigger) -> Definition:
    """Returns what a trigger service must know of a trigger."""
    return Definition(
        name=stored.name,
        version=stored.version,
        provider=trigger.provider,
        changed_at=stored.changed_at,
        seq=stored.seq,
        begun_at=stored.begun_at,
        active_at=stored.active_at,
        with_=trigger.with_,
        enabled=trigger.enabled,
        headers=headers_read(trigger),
    )


class Definitions:
    """Makes the bucket agree with the state."""

    def __init__(self, client: Client, publisher: Publisher, state: World) -> None:
        self._client = client
        self._mirror = Mirror(client, publisher, names.TRIGGER_BUCKET)
        self._state = state

    async def keep(self, trigger: str) -> None:
        """Writes a definition, or removes it.

        Raises:
            LostRaceError: another broker has written it meanwhile.
            UnavailableError: it may be written or not.
        """
        await self._mirror.write(trigger, self._data(trigger), self._state.seq)

    async def doubtful(self) -> Iterable[str]:
        """Returns the triggers whose definition in the bucket differs from the state.

        Raises:
            UnavailableError: the bucket could not be read to its end.
        """
        wrong = {name for kind, name in self._state.objects.stored if kind == "trigger"}
        async with reading(self._client, names.TRIGGER_BUCKET) as bucket:
            while not bucket.is_whole:
                for entry in await bucket.batch():
                    (wrong.discard if self._data(entry.name) == entry.value else wrong.add)(entry.name)
        return wrong

    def _data(self, trigger: str) -> bytes | None:
        stored = self._state.objects.stored.get(("trigger", trigger))
        manifest = self._state.objects.get("trigger", trigger)
        if stored is None or not isinstance(manifest, Trigger):
            return None
        return _encode(definition_of(stored, manifest))
