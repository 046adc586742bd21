"""A broker as far as a trigger service sees one: definitions in the bucket, firings taken, events reported.

It decides nothing: every event makes a firing, and an event that came before is a duplicate.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import KeyValueConfig

from muster.broker.operations.decode import decode
from muster.mesh import names
from muster.mesh.connection import connect, settled
from muster.mesh.errors import GoneError, MusterError, NotFoundError
from muster.mesh.events import Event, EventPage, EventQuery, cloud_event, nats_subject
from muster.mesh.firing import Definition, DueReply, FireReply, FireRequest, FiringState
from muster.mesh.nesting import WRAPPED
from muster.triggers.events import order
from tests.triggers.definition import definition


class ControlPlane:
    """The stand-in, and what it was asked for."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.js = client.jetstream(timeout=5)
        self.definitions: dict[str, Definition] = {}
        self.seq = 0
        self.fired: list[FireRequest] = []
        """What was new."""
        self.attempts: list[FireRequest] = []
        self.events: list[Event] = []
        self.pages: list[EventQuery] = []
        self._subscriptions: list[Subscription] = []
        self.edge = "0"
        """The last record of which events are no longer kept."""
        self.refuse: Callable[[FireRequest], MusterError | None] = lambda _: None

    async def open(self) -> None:
        """Make the buckets and answer."""
        for bucket in (names.TRIGGER_BUCKET, names.CURSOR_BUCKET):
            await self.js.create_key_value(KeyValueConfig(bucket=bucket))
        await self.reopen()

    async def _answer(self, noun: str, verb: str, handle: Callable[[bytes], Any]) -> None:
        async def answer(message: Msg) -> None:
            headers = None
            try:
                shown = msgspec.json.encode(handle(message.data))
            except MusterError as error:
                shown = msgspec.json.encode({"error": error.as_problem()})
                headers = {"Nats-Service-Error": "refused", "Nats-Service-Error-Code": str(error.status)}
            await self.client.publish(message.reply, shown, headers=headers)

        self._subscriptions.append(await self.client.subscribe(names.api(noun, verb), cb=answer))

    async def close(self) -> None:
        """Answer no more."""
        for subscription in self._subscriptions:
            await subscription.unsubscribe()
        self._subscriptions.clear()
        await settled(self.client)

    async def reopen(self) -> None:
        """Answer again."""
        await self._answer("firings", "create", self._fire)
        await self._answer("triggers", "get", self._get)
        await self._answer("triggers", "due", lambda _: DueReply(last={}))
        await self._answer("events", "list", self._list)
        await settled(self.client)

    def _fire(self, data: bytes) -> FireReply:
        request = decode(FireRequest, data, WRAPPED)
        self.attempts.append(request)
        known = self.definitions.get(request.trigger)
        if known is None or not known.enabled:
            raise NotFoundError(f"there is no trigger {request.trigger!r}")
        if request.version is not None and request.version != known.version:
            return FireReply(stale=True)
        if (error := self.refuse(request)) is not None:
            raise error
        firing = names.digest_id(request.trigger, request.key)
        duplicate = any((it.trigger, it.key) == (request.trigger, request.key) for it in self.fired)
        if not duplicate:
            self.fired.append(request)
        state = FiringState.REJECTED if request.rejected else FiringState.FIRED
        return FireReply(firing=firing, state=state, duplicate=duplicate)

    def _get(self, data: bytes) -> Definition:
        name = msgspec.json.decode(data)["name"]
        if name not in self.definitions:
            raise NotFoundError(f"there is no trigger {name!r}")
        return self.definitions[name]

    def _list(self, data: bytes) -> EventPage:
        query = decode(EventQuery, data)
        self.pages.append(query)
        if query.after and 0 < order(query.after)[0] < int(self.edge):
            raise GoneError.up_to(self.edge, None)
        if not query.limit:
            return EventPage(items=[], next=self.events[-1].id if self.events else None)
        found = [
            event
            for event in self.events
            if order(event.id)[0] > int(self.edge)
            and (order(event.id) > order(query.after) if query.after else not query.since or event.time > query.since)
        ]
        items = [event for event in found if event.kind in query.kinds][: query.limit]
        last = items[-1].id if len(items) == query.limit else found[-1].id if found else query.after
        return EventPage(items=items, next=last, more=len(items) == query.limit)

    def forget(self, last: Event) -> None:
        """Keeps the events up to one no longer."""
        self.edge = last.id.partition(".")[0]

    async def apply(
        self, name: str, provider: str, *, bucket: bool = True, at: datetime | None = None, **fields: Any
    ) -> Definition:
        """Define a trigger, or change it; with or without notifying the bucket."""
        self.seq += 1
        version = self.definitions[name].version + 1 if name in self.definitions else 1
        enabled = fields.pop("enabled", True)
        changed = at or datetime.now(UTC)
        shown = definition(name, provider, fields, version=version, changed=changed, seq=self.seq, enabled=enabled)
        self.definitions[name] = shown
        if bucket:
            store = await self.js.key_value(names.TRIGGER_BUCKET)
            await store.put(names.key(name), msgspec.json.encode(shown))
        return shown

    async def delete(self, name: str) -> None:
        """Remove a trigger."""
        del self.definitions[name]
        await (await self.js.key_value(names.TRIGGER_BUCKET)).delete(names.key(name))

    async def happen(self, kind: str, subject: str = "it", *, heard: bool = True, **data: Any) -> Event:
        """Records an event, and publishes it."""
        event = Event(id=f"{len(self.events) + 1}.0", kind=kind, subject=subject, time=datetime.now(UTC), data=data)
        self.events.append(event)
        if heard:
            await self.client.publish(nats_subject(kind, subject), cloud_event(event))
        return event

    def keys(self, trigger: str) -> list[str]:
        """The keys of a trigger's firings, in their order."""
        return [request.key for request in self.fired if request.trigger == trigger]


@asynccontextmanager
async def control_plane(server: str, *, opened: bool = True) -> AsyncIterator[ControlPlane]:
    """A stand-in on this server."""
    async with connect(server, name="control plane") as client:
        plane = ControlPlane(client)
        if opened:
            await plane.open()
        yield plane
