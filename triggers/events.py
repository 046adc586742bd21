"""Muster's own events, read once from the broker's history for all triggers of this service.

Events on NATS only signal that there is something to read: only the history has all events in order.  A bucket stores
the position up to which events were handled, and a service that starts continues there.  It can read some events twice,
because the position is written once a second and other services read too.  The id of an event is the key of its firing,
so that none fires twice.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.errors import Error as JetStreamError
from nats.js.errors import KeyNotFoundError

from muster.mesh import names
from muster.mesh.asking import Requests
from muster.mesh.errors import GoneError, MusterError, UnreachableError
from muster.mesh.events import MISSED, Event, EventPage, EventQuery
from muster.mesh.service import Service
from muster.mesh.structs import Wire
from muster.mesh.wire import subscribe, unsubscribe

log = structlog.get_logger()

KEY: Final = "events"
"""The key of the position in `names.CURSOR_BUCKET`; all services share it, because each handles every event."""

POLL_INTERVAL: Final = 5.0
"""Seconds after which the history is read in any case."""

RETRY_DELAY: Final = 0.5
"""Seconds before the history is read again after a failure."""

SAVE_INTERVAL: Final = 1.0
"""Seconds between two writes of the position."""

PAGE: Final = 200
"""Events that are read at a time, and buffered for a busy trigger."""

GRACE: Final = timedelta(seconds=30)
"""The definition of a trigger can arrive this long after its position on the log was read."""


class Cursor(Wire):
    """The position up to which events were handled."""

    after: str
    time: datetime


class Reader:
    """The buffered events of one trigger.  It survives a failure of its source."""

    def __init__(self, kinds: tuple[str, ...], wants: Callable[[Event], bool], since: datetime) -> None:
        self.kinds = kinds
        self.since = since
        self.place: str | None = None
        """The position up to which events were read for it; None if none were."""
        self.drained: Callable[[], None] = _nothing
        """Called when it has handled all of its events."""
        self.last: datetime | None = None
        """The time of the last handled event."""
        self._wants = wants
        self._waiting: deque[Event] = deque()
        self._came = asyncio.Event()
        self._handled: str | None = None

    @property
    def has_capacity(self) -> bool:
        """Returns whether it accepts another page."""
        return not self._waiting

    @property
    def handled(self) -> str | None:
        """Returns the position up to which everything is handled."""
        return self._handled if self._waiting else self.place

    def give(self, events: Iterable[Event], place: str | None) -> None:
        """Adds the events between its position and `place`."""
        start = order(self.place)
        if order(place) <= start:
            return
        self._handled, self.place = self.place, place
        self._waiting.extend(
            event for event in events if order(event.id) > start and event.time > self.since and self._wants(event)
        )
        if self._waiting:
            self._came.set()

    def skip(self, place: str) -> None:
        """Continues at a place, because the events before it are no longer kept; an event in line says so."""
        start = self.place
        if start is None or order(start) >= order(place):
            return
        self._handled, self.place = start, place
        data = {"after": start, "next": place}
        self._waiting.append(Event(id=place, kind=MISSED, subject="events", time=datetime.now(UTC), data=data))
        self._came.set()

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Yields events without end; requesting the next one marks the current one as handled."""
        while True:
            while not self._waiting:
                self._came.clear()
                await self._came.wait()
            event = self._waiting[0]
            yield event
            self._waiting.popleft()
            self._handled, self.last = event.id, event.time
            if not self._waiting:
                self.drained()


class Events(Service):
    """Reads the history of events while there are readers."""

    def __init__(self, client: Client, requests: Requests) -> None:
        super().__init__()
        self._client = client
        self._requests = requests
        self._readers: set[Reader] = set()
        self._heard: dict[str, Subscription] = {}
        self._news = asyncio.Event()
        self._kept: Cursor | None = None

    def open(self, reader: Reader) -> None:
        """Adds a reader."""
        kept = self._kept
        if kept is not None and reader.since < kept.time - GRACE:
            reader.place = kept.after
        reader.drained = self._news.set
        self._readers.add(reader)
        self._news.set()

    def renew(self) -> None:
        """Reads the history after a reconnect, because signals were missed."""
        self._news.set()

    def close(self, reader: Reader) -> None:
        """Removes a reader."""
        self._readers.discard(reader)
        self._news.set()

    async def run(self) -> None:
        """Reads until cancelled."""
        loop = asyncio.get_running_loop()
        self._kept = await self._load()
        self.ready.set()
        saved = loop.time()
        try:
            while True:
                await self._listen()
                self._news.clear()
                pause = POLL_INTERVAL
                try:
                    while await self._read():
                        pass
                except UnreachableError as error:
                    log.debug("events.wait", why=error.detail)
                    pause = RETRY_DELAY
                except MusterError as error:
                    log.warning("events.refused", why=str(error))
                except Exception:  # one page or event must not stop the reading for all triggers
                    log.exception("events.bug")
                if loop.time() - saved > SAVE_INTERVAL:
                    saved = loop.time()
                    await self._save()
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(pause, SAVE_INTERVAL) if self._unsaved() else pause):
                        await self._news.wait()
        finally:
            for subscription in self._heard.values():
                await unsubscribe(subscription)

    async def _read(self) -> bool:
        """Reads one page for the readers with capacity; returns whether there can be more."""
        hungry = [reader for reader in self._readers if reader.has_capacity]
        if not hungry:
            return False
        fresh = [reader for reader in hungry if reader.place is None]
        chosen = fresh or hungry
        kinds = tuple(sorted({kind for reader in chosen for kind in reader.kinds}))
        if fresh:
            query = EventQuery(since=min(reader.since for reader in fresh), kinds=kinds, limit=PAGE)
        else:
            query = EventQuery(after=min((reader.place for reader in chosen), key=order), kinds=kinds, limit=PAGE)
        try:
            page = await self._requests.ask("events", "list", query, EventPage)
        except GoneError as error:
            log.warning("events.missed", after=query.after, next=error.after)
            for reader in chosen:
                reader.skip(error.after)
            return True
        for reader in chosen:
            reader.give(page.items, page.next)
        return page.more or (bool(fresh) and page.next is not None)

    async def _listen(self) -> None:
        """Subscribes to the signals on NATS."""
        nouns = {kind.partition(".")[0] for reader in self._readers for kind in reader.kinds}
        wanted = {_subjects(noun) for noun in nouns}
        for subject in [subject for subject in self._heard if subject not in wanted]:
            await unsubscribe(self._heard.pop(subject))
        for subject in wanted - set(self._heard):
            with suppress(nats.errors.Error, OSError):  # the next poll finds the events
                self._heard[subject] = await subscribe(self._client, subject, self._hear)

    def _hear(self, _: Msg) -> None:
        self._news.set()

    def _cursor(self) -> Cursor | None:
        """Returns the position up to which every reader has handled everything."""
        places = [reader.handled for reader in self._readers]
        known = [place for place in places if place is not None]
        if not known or len(known) < len(places):
            return None
        time = max(reader.last or reader.since for reader in self._readers)
        cursor = Cursor(after=min(known, key=order), time=time)
        behind = self._kept is not None and order(cursor.after) <= order(self._kept.after)
        return None if behind else cursor

    def _unsaved(self) -> bool:
        return self._cursor() is not None

    async def _save(self) -> None:
        cursor = self._cursor()
        if cursor is None:
            return
        try:
            bucket = await self._client.jetstream(timeout=5).key_value(names.CURSOR_BUCKET)
            await bucket.put(KEY, msgspec.json.encode(cursor))
        except (nats.errors.Error, JetStreamError, TimeoutError, OSError) as error:
            log.debug("cursor.unsaved", error=repr(error))
        else:
            self._kept = cursor

    async def _load(self) -> Cursor | None:
        while True:
            try:
                bucket = await self._client.jetstream(timeout=5).key_value(names.CURSOR_BUCKET)
                entry = await bucket.get(KEY)
                return msgspec.json.decode(entry.value or b"", type=Cursor)
            except (KeyNotFoundError, msgspec.MsgspecError):
                return None
            except (nats.errors.Error, JetStreamError, TimeoutError, OSError) as error:
                log.debug("cursor.unread", error=repr(error))
                await asyncio.sleep(RETRY_DELAY)


def order(ident: str | None) -> tuple[int, int]:
    """Returns the id of an event, or the end of a page, as a comparable value."""
    if ident is None:
        return (-1, -1)
    sequence, _, place = ident.partition(".")
    return int(sequence), int(place or -1)


def _subjects(noun: str) -> str:
    return "muster.event.>" if set(noun) & set("*?[") else f"muster.event.{noun}.>"


def _nothing() -> None:
    """Does nothing."""
