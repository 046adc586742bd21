"""The triggers of the mesh: read from their bucket, and requested from a broker if the bucket is too slow.

The bucket is some milliseconds behind the log.  Therefore a trigger that is missing here, or that has changed, is
requested from a broker before a caller is answered that it does not exist.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final

import msgspec
import nats.errors
import structlog
from nats.aio.client import Client
from nats.js.errors import Error as JetStreamError

from muster.blueprints.provider import Provider, provider_kinds
from muster.mesh import names
from muster.mesh.asking import Requests
from muster.mesh.bucket import Entry, Reader, reading
from muster.mesh.errors import NotFoundError, UnavailableError
from muster.mesh.firing import Definition
from muster.mesh.service import Service
from muster.mesh.structs import Wire

log = structlog.get_logger()

RETRY_DELAY: Final = 0.5
"""Seconds before the bucket is read again after a failure."""


class TriggerRef(Wire):
    """Names a trigger: the request of `muster.api.triggers.get`."""

    name: str


class Trigger(msgspec.Struct, frozen=True, kw_only=True):
    """A definition with parsed settings."""

    name: str
    version: int
    provider: str
    changed_at: datetime
    begun_at: datetime
    """The time from which its schedule counts."""
    active_at: datetime
    """Earlier times do not fire."""
    seq: int = 0
    """The log sequence at which this version was applied."""
    enabled: bool
    headers: frozenset[str] = frozenset()
    """Headers of deliveries that its manifest reads by name."""
    settings: Provider | None = None
    """None if this service cannot run it; then `trouble` has the reason."""
    trouble: str = ""

    @property
    def is_active(self) -> bool:
        """Returns whether it can fire."""
        return self.enabled and self.settings is not None

    def is_older(self, other: Trigger) -> bool:
        """Returns whether `other` was applied after this."""
        return (self.seq, self.version) < (other.seq, other.version)


Listener = Callable[[str, Trigger | None], None]
"""Receives each new or changed trigger that can run, and None for a trigger that can no longer run."""


def understood(definition: Definition) -> Trigger:
    """Parses the settings of a definition."""
    settings, trouble = None, ""
    kind = provider_kinds().get(definition.provider)
    if kind is None:
        trouble = f"the provider {definition.provider!r} is not installed where this trigger service runs"
    else:
        try:
            settings = msgspec.convert(definition.with_, kind)
        except msgspec.ValidationError as error:
            trouble = f"this trigger service cannot parse its settings: {error}"
    return Trigger(
        name=definition.name,
        version=definition.version,
        provider=definition.provider,
        changed_at=definition.changed_at,
        begun_at=definition.begun_at or definition.changed_at,
        active_at=definition.active_at or definition.changed_at,
        seq=definition.seq,
        enabled=definition.enabled,
        headers=frozenset(definition.headers),
        settings=settings,
        trouble=trouble,
    )


_decode = msgspec.json.Decoder(Definition).decode


class Definitions(Service):
    """All triggers by name.  `listeners` receive every change at once and in order."""

    def __init__(self, client: Client, requests: Requests) -> None:
        super().__init__()
        self.listeners: list[Listener] = []
        self._client = client
        self._requests = requests
        self._known: dict[str, Trigger] = {}
        self.unusable: dict[str, str] = {}
        """The reasons why enabled triggers cannot run here."""
        self._bucket: Reader | None = None

    def __len__(self) -> int:
        return len(self._known)

    def all(self) -> Iterable[Trigger]:
        """Returns every known trigger, including those that cannot run."""
        return self._known.values()

    def known(self, name: str) -> Trigger | None:
        """Returns the trigger if it is known here and can fire; sends no request."""
        trigger = self._known.get(name)
        return trigger if trigger is not None and trigger.is_active else None

    async def get(self, name: str) -> Trigger:
        """Returns the trigger of this name that can fire; requests it from a broker if it is not known here.

        Raises:
            NotFoundError: it does not exist, it is disabled, or it cannot run here.
            UnavailableError: no broker answers.
        """
        trigger = self.known(name) or await self.refreshed(name)
        if not trigger.enabled:
            raise NotFoundError(f"trigger {name!r} is disabled")
        if trigger.settings is None:
            raise NotFoundError(f"trigger {name!r} cannot run here: {trigger.trouble}")
        return trigger

    async def refreshed(self, name: str) -> Trigger:
        """Requests the current trigger from a broker, even if one is known here.

        Raises:
            NotFoundError: it does not exist.
            UnavailableError: no broker answers.
        """
        if not names.is_name(name):
            raise NotFoundError(f"there is no trigger {name!r}")
        before = self._known.get(name)
        try:
            definition = await self._requests.ask("triggers", "get", TriggerRef(name=name), Definition)
        except NotFoundError:
            if before is not None and self._known.get(name) is before:
                self._drop(name)
            raise
        trigger = understood(definition)
        self._put(trigger)
        return self._known.get(name, trigger)

    def renew(self) -> None:
        """Reads the bucket again after a reconnect, because the server can have lost the position."""
        if self._bucket is not None:
            self._bucket.renew()

    async def run(self) -> None:
        """Follows the bucket until cancelled; ready once all of it was read."""
        while True:
            try:
                await self._follow()
            except (nats.errors.Error, JetStreamError, UnavailableError, TimeoutError, OSError) as error:
                log.debug("definitions.wait", error=repr(error))
            await asyncio.sleep(RETRY_DELAY)

    async def _follow(self) -> None:
        """Reads the whole bucket, then each change, until the server has lost the position."""
        try:
            async with reading(self._client, names.TRIGGER_BUCKET) as self._bucket:
                await self._read(self._bucket)
        finally:
            self._bucket = None

    async def _read(self, bucket: Reader) -> None:
        seen: set[str] = set()
        while not bucket.is_whole:
            seen.update([self._take(entry) for entry in await bucket.batch()])
        self._is_whole(seen)
        while True:
            for entry in await bucket.batch():
                self._take(entry)

    def _is_whole(self, seen: set[str]) -> None:
        """Drops the triggers that the bucket no longer has, after all of it was read."""
        for name in [name for name in self._known if name not in seen]:
            self._drop(name)
        if not self.ready.is_set():
            log.info("definitions.ready", triggers=len(self._known))
            self.ready.set()

    def _take(self, entry: Entry) -> str:
        """Applies an entry of the bucket; returns the name of its trigger."""
        name = entry.name
        if entry.value is None:
            known = self._known.get(name)
            if known is not None and known.changed_at <= entry.written_at:  # otherwise it was created again meanwhile
                self._drop(name)
            return name
        try:
            trigger = understood(_decode(entry.value))
        except msgspec.MsgspecError as error:
            log.warning("definition.unreadable", trigger=name, error=str(error))
        else:
            self._put(trigger)
        return name

    def _put(self, trigger: Trigger) -> None:
        before = self._known.get(trigger.name)
        if before is not None and not before.is_older(trigger):
            return
        self._known[trigger.name] = trigger
        self.unusable.pop(trigger.name, None)
        if trigger.trouble and trigger.enabled:
            self.unusable[trigger.name] = trigger.trouble
            log.warning("trigger.unusable", trigger=trigger.name, why=trigger.trouble)
        if trigger.is_active:
            self._notify(trigger.name, trigger)
        elif before is not None and before.is_active:
            self._notify(trigger.name, None)

    def _drop(self, name: str) -> None:
        known = self._known.pop(name, None)
        self.unusable.pop(name, None)
        if known is not None and known.is_active:
            self._notify(name, None)

    def _notify(self, name: str, trigger: Trigger | None) -> None:
        for listener in self.listeners:
            try:
                listener(name, trigger)
            except Exception:  # a bug with one trigger must not stop the others
                log.exception("trigger.bug", trigger=name)
