"""Triggers' definitions in their bucket: what trigger services run by."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Final

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError

from muster.blueprints.objects.trigger import Trigger
from muster.broker.state.element import StoredObject
from muster.broker.state.machine import State
from muster.mesh import names
from muster.mesh.firing import Definition
from muster.mesh.jetstream import Publisher, Puller, pending

STREAM: Final = f"KV_{names.TRIGGER_BUCKET}"
PREFIX: Final = f"$KV.{names.TRIGGER_BUCKET}."

OPERATION: Final = "KV-Operation"
"""The header that says a key was removed (ADR-8)."""

AT_ONCE: Final = 1024
"""Definitions on their way to us at a time."""

FORGOTTEN: Final = 30.0
"""Seconds after which the server drops our place in the bucket, should we be gone."""

_encode = msgspec.json.Encoder().encode


def definition_of(stored: StoredObject, trigger: Trigger) -> Definition:
    """What a trigger service has to know."""
    return Definition(
        name=stored.name,
        version=stored.version,
        provider=trigger.provider,
        changed_at=stored.changed_at,
        with_=trigger.with_,
        enabled=trigger.enabled,
    )


class Definitions:
    """Makes the bucket say what the state says."""

    def __init__(self, client: Client, publisher: Publisher, state: State) -> None:
        self._client = client
        self._publisher = publisher
        self._state = state

    async def keep(self, trigger: str) -> None:
        """Write one, or remove it."""
        data = self._data(trigger)
        headers = {OPERATION: "DEL"} if data is None else None
        await self._publisher.publish(f"{PREFIX}{names.key(trigger)}", data or b"", headers)

    async def doubtful(self) -> Iterable[str]:
        """Triggers of which the bucket says something else than the state: one pass over both."""
        js = self._client.jetstream()
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
            filter_subject=f"{PREFIX}>",
            ack_policy=AckPolicy.NONE,
            mem_storage=True,
            num_replicas=1,
            inactive_threshold=FORGOTTEN,
        )
        info = await js.add_consumer(STREAM, config)
        wrong = {name for kind, name in self._state.fleet.stored if kind == "trigger"}
        left = info.num_pending or 0
        async with Puller(self._client, STREAM, str(info.name), limit=AT_ONCE) as puller:
            while left and not puller.gone.is_set():
                for message in await puller.batch():
                    left = pending(message)
                    name = names.untoken(message.subject.removeprefix(PREFIX))
                    kept = None if (message.headers or {}).get(OPERATION) else message.data
                    (wrong.discard if self._data(name) == kept else wrong.add)(name)
        with suppress(nats.errors.Error, NotFoundError, TimeoutError):
            await js.delete_consumer(STREAM, str(info.name))
        return wrong

    def _data(self, trigger: str) -> bytes | None:
        stored = self._state.fleet.stored.get(("trigger", trigger))
        manifest = self._state.fleet.get("trigger", trigger)
        if stored is None or not isinstance(manifest, Trigger):
            return None
        return _encode(definition_of(stored, manifest))
