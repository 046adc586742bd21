"""The seam between a kind of trigger and the service that runs it.

A provider is a strict struct found by its entry point in the group `muster.triggers`; its fields are
what the trigger's `with:` may say.  It is one of three: a `Schedule` knows when, a `Hook` understands
what is sent to `/hooks/<trigger>`, a `Source` listens somewhere itself.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Final, Literal, Protocol

import msgspec
import structlog
from nats.aio.client import Client

from muster.blueprints.definition import duration
from muster.blueprints.rates import rate_of
from muster.blueprints.secret import Secret
from muster.mesh.errors import Problem
from muster.mesh.firing import FireReply
from muster.mesh.moment import rfc3339
from muster.mesh.structs import Wire

log = structlog.get_logger()


class Happening(Wire):
    """One event, as a provider understood it."""

    event: dict[str, Any]
    """What `when` and templates see as `event`."""
    key: str = ""
    """What identifies it, so that a redelivery is a duplicate; empty if nothing does."""
    depth: int = 0
    """How many firings are above it."""
    rejected: str = ""
    """Why it can make no orders (it is too large, say); it is put on the log with this reason, and not lost."""
    try_again: bool = False
    """Whether its sender sent it: sent again after a firing that made no orders, it is tried again."""


class Provider(Wire, rename=lambda name: name.rstrip("_")):
    """Base of all settings."""

    event_fields: ClassVar[frozenset[str] | None] = None
    """What its events have beside the common fields; None if that is not known.  Others are refused in manifests."""

    @property
    def body_fields(self) -> frozenset[str]:
        """Fields that bodies of its events are known to have, for suggestions; empty if none is."""
        return frozenset()

    def problems(self) -> Iterable[Problem]:
        """What is wrong beyond the types, reported when the trigger is applied; paths count from `with`."""
        return ()

    def by_hand(self, body: Any, now: datetime) -> dict[str, Any]:  # noqa: ARG002 - it adds nothing
        """What its events have beside the common fields, for one that a person makes: `muster fire`."""
        return {}


MOST_JITTER: Final = timedelta(days=1)


def span_problems(path: str, text: str, *, least: timedelta = timedelta(0), most: timedelta) -> Iterable[Problem]:
    """What is wrong with a duration at `path`."""
    try:
        span = duration(text)
    except ValueError as error:
        yield Problem(path=path, message=str(error))
        return
    if not least <= span <= most:
        yield Problem(path=path, message=f"{text} is not between {least.total_seconds():g} s and {most.days} days")


class Schedule(Provider):
    """Base of what fires by the clock."""

    event_fields = frozenset({"local", "timezone"})

    jitter: str | None = None
    """Up to this long (`30s`) later, each time another while."""
    missed: Literal["skip", "once", "all"] = "once"
    """What becomes of the times at which no trigger service ran: none, the last, or each of them."""
    missed_limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 100
    """How many of the latest missed times `all` makes good."""

    def problems(self) -> Iterable[Problem]:
        """What is wrong with the common fields."""
        if self.jitter is not None:
            yield from span_problems("jitter", self.jitter, most=MOST_JITTER)

    def zone(self) -> tzinfo:
        """In which its times are shown to people."""
        return UTC

    def by_hand(self, body: Any, now: datetime) -> dict[str, Any]:  # noqa: ARG002 - a tick has no body
        """As if it were due now."""
        return self.details(now)

    def details(self, due: datetime) -> dict[str, Any]:
        """What the event of a due time has beside the common fields."""
        zone = self.zone()
        return {"local": _local(due, zone), "timezone": str(zone)}

    @abstractmethod
    def following(self, after: datetime, start: datetime) -> datetime | None:
        """The first due time after `after`; `start` is when the schedule was applied.  None: there is no more."""

    def key(self, due: datetime, start: datetime) -> str:  # noqa: ARG002 - an instant is one whenever it was applied
        """What makes two firings for a due time one, whichever host asks."""
        return rfc3339(due)


@lru_cache(maxsize=256)
def _local(due: datetime, zone: tzinfo) -> str:
    return due.astimezone(zone).isoformat()


MOST_SECRETS: Final = 8
"""Of one trigger."""


VOLUMES: Final = ("256MB/1m", "16GB/1d")
OPEN_VOLUMES: Final = ("16MB/1m", "1GB/1d")
"""Bytes that a hook takes unless it says otherwise: a firing is kept for good, and the disk is everybody's."""


class HookRequest(Wire):
    """What was sent to `/hooks/<trigger>`."""

    method: str
    """`POST`, or another that the hook's `methods` has."""
    headers: Mapping[str, str]
    """Names in lower case; the last of several counts."""
    query: Mapping[str, str]
    body: bytes
    received_at: datetime
    sender: str = ""
    """Its address."""
    read: frozenset[str] = frozenset()
    """Headers that the trigger's manifest names: they are kept in the event, as those that are known are."""


class Ignored(Wire):
    """A genuine delivery that does not concern the trigger."""

    reason: str


class Answered(Wire):
    """A sender's question that is answered, and makes no firing."""

    body: bytes
    content_type: str


class Hook(Provider):
    """Base of what is sent to us over HTTP."""

    secret: Secret | Annotated[tuple[Secret, ...], msgspec.Meta(min_length=1, max_length=MOST_SECRETS)] | None = None
    """One, or several of which any fits: the old and the new one while a secret is changed."""
    max_body: Annotated[int, msgspec.Meta(ge=1, le=4 * 1024**2)] = 1024**2
    """Bytes; a larger body is answered with 413."""
    rate: str = "100000/1m"
    """How many deliveries of one sender are taken; beyond, they are answered with 429."""
    volume: str | Annotated[tuple[str, ...], msgspec.Meta(max_length=4)] | None = None
    """How many bytes of bodies are taken of all senders together: `64MB/1m`."""

    def problems(self) -> Iterable[Problem]:
        """Rates that are none."""
        volumes = [("volume", text) for text in self.volumes]
        for path, text in (("rate", self.rate), *volumes):
            try:
                rate_of(text)
            except ValueError as error:
                yield Problem(path=path, message=str(error))

    @property
    def volumes(self) -> tuple[str, ...]:
        """Every bound on its bytes; unless said, a tighter one where no secret is asked for."""
        if self.volume is None:
            return OPEN_VOLUMES if self.secret is None else VOLUMES
        return self.volume if isinstance(self.volume, tuple) else (self.volume,)

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """All of them."""
        return self.secret if isinstance(self.secret, tuple) else (self.secret,) if self.secret is not None else ()

    @property
    def methods(self) -> tuple[str, ...]:
        """HTTP methods that it takes."""
        return ("POST",)

    @property
    def is_for_own_account(self) -> bool:
        """Whether it takes only what processes of this host and this account send."""
        return False

    @abstractmethod
    def receive(self, request: HookRequest) -> Happening | Ignored | Answered:
        """Check who sent it, then understand it; blocks for nothing but a secret's file.

        Raises:
            UnauthorizedError: the signature or token is missing or wrong.
            InvalidError: it cannot be parsed (answered with status 400).
            UnavailableError: the secret is missing.
        """


class Mesh(Protocol):
    """What a source is given."""

    @property
    def client(self) -> Client:
        """The connection to NATS."""
        ...

    @property
    def trigger(self) -> str:
        """The trigger's name."""
        ...

    @property
    def changed_at(self) -> datetime:
        """When the trigger was applied with its present settings: what happened before does not concern it."""
        ...

    async def fire(self, happening: Happening) -> FireReply:
        """Hand an event over; it is on the log, ignored or stale when this returns.  Tries until it is.

        Raises:
            NotFoundError: the trigger is gone.
        """
        ...

    def events(self, kinds: tuple[str, ...]) -> AsyncIterator[Any]:
        """Muster's own events of some kinds, none lost and in order."""
        ...

    def listening(self) -> None:
        """Say that it listens: what kept it from that before is no longer shown (else it is for ten seconds more)."""
        ...


class Source(Provider):
    """Base of what listens somewhere itself."""

    at_once: ClassVar[int] = 64
    """Firings under way at a time."""

    @abstractmethod
    async def run(self, mesh: Mesh) -> None:
        """Listen and fire until cancelled; what it raises is reported, and it is restarted."""

    async def forget(self, mesh: Mesh) -> None:
        """The trigger was deleted, disabled or given other settings: remove what `run` left elsewhere, if it does."""

    def leaves(self) -> str:
        """Identifies what `forget` would remove: settings that leave the same behind continue to use it."""
        return repr(self)


@lru_cache(maxsize=1)
def provider_kinds() -> Mapping[str, type[Provider]]:
    """Returns every installed kind of trigger, by the name that `provider:` says; logs and leaves out a broken one."""
    found = {point.name: _loaded(point) for point in entry_points(group="muster.triggers")}
    return MappingProxyType({name: kind for name, kind in found.items() if kind is not None})


def _loaded(point: EntryPoint) -> type[Provider] | None:
    try:
        kind: type[Provider] = point.load()
        if not issubclass(kind, Provider):
            raise TypeError(f"{point.value} is not a provider")  # noqa: TRY301 - reported as any other fault
    except Exception as error:  # noqa: BLE001 - somebody else's module may raise anything; the others continue
        log.warning("provider.broken", provider=point.name, error=repr(error))
        return None
    return kind
