"""The events that the projection keeps, for everyone who was not listening when they happened."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from muster.broker.projection.readers import Readers, Rows
from muster.broker.projection.recorder import Recorder
from muster.mesh.errors import GoneError, UsageError
from muster.mesh.events import Event, EventPage, EventQuery, from_cloud_event

_ID: Final = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,18}))?")

Place = tuple[int, int]
"""A record's sequence, and an index among its events; -1 is before them all."""


def event_place(ident: str) -> Place:
    """Returns an event's id as something that compares.

    Raises:
        UsageError: it is not an event's id.
    """
    found = _ID.fullmatch(ident)
    if found is None:
        raise UsageError(f"{ident[:80]!r} is not an event's id; one looks like 1234.0")
    return int(found[1]), int(found[2] or -1)


class PastEvents:
    """Reads events, oldest first."""

    def __init__(self, readers: Readers, recorder: Recorder) -> None:
        self._readers = readers
        self._recorder = recorder

    async def after(self, ident: str | None, kinds: Sequence[str], limit: int) -> tuple[list[Event], bool]:
        """Returns events after one (all that are kept if None), and whether there are more; a kind may be a noun.

        Raises:
            GoneError: some events after that one are no longer kept.
        """
        place = event_place(ident) if ident else (0, -1)
        await self.check(place)
        return await self._list(place, kinds, limit)

    async def page(self, wanted: EventQuery) -> EventPage:
        """Returns events after a place or since a time, and the place to continue from.

        Raises:
            GoneError: some events after that place are no longer kept.
        """
        end = await self._rows("SELECT seq, place FROM events ORDER BY seq DESC, place DESC LIMIT 1", ())
        start = event_place(wanted.after) if wanted.after else (0, -1)
        await self.check(start)
        if wanted.after is None and wanted.since is not None:
            start = await self._place_at(wanted.since)
        items, more = await self._list(start, wanted.kinds, wanted.limit) if wanted.limit else ([], False)
        if more:
            return EventPage(items=items, next=items[-1].id, more=True)
        places = [(row[0], row[1]) for row in end] + [event_place(event.id) for event in items[-1:]]
        if wanted.after is not None:
            places.append(start)
        if not places:
            return EventPage(items=items)
        seq, place = max(places)
        return EventPage(items=items, next=f"{seq}.{place}" if place >= 0 else str(seq))

    async def check(self, place: Place) -> None:
        """Does nothing if every event after a place is kept.  Before the first record, all that are kept are meant.

        Raises:
            GoneError: some are not.
        """
        seq, index = place
        if seq <= 0:
            return
        ((edge,),) = await self._rows("SELECT value FROM meta WHERE key = 'events_after'", ())
        if seq > edge or (seq == edge and index < 0):
            return
        first = await self._rows("SELECT seq || '.' || place FROM events ORDER BY seq, place LIMIT 1", ())
        raise GoneError.up_to(str(edge), first[0][0] if first else None)

    async def _list(self, start: Place, kinds: Sequence[str], limit: int) -> tuple[list[Event], bool]:
        sql, values = "SELECT doc FROM events WHERE (seq, place) > (?, ?)", [*start]
        if kinds:
            sql += f" AND ({' OR '.join(['kind GLOB ?'] * len(kinds))})"
        globs = (kind if "." in kind or "*" in kind else f"{kind}.*" for kind in kinds)
        await self._recorder.caught_up()
        rows, more = await self._readers.page(f"{sql} ORDER BY seq, place", (*values, *globs), limit)
        return [from_cloud_event(row[0]) for row in rows], more

    async def _place_at(self, time: datetime) -> Place:
        """Returns the place behind all events that are not later than a time; the log's times only grow."""
        ((low, high),) = await self._rows("SELECT coalesce(min(seq), 0), coalesce(max(seq), 0) + 1 FROM events", ())
        while low < high:
            middle = (low + high) // 2
            rows = await self._rows("SELECT seq, doc FROM events WHERE seq >= ? ORDER BY seq, place LIMIT 1", (middle,))
            if rows and from_cloud_event(rows[0][1]).time <= time:
                low = rows[0][0] + 1
            else:
                high = middle
        return low, -1

    async def _rows(self, sql: str, values: Sequence[Any]) -> Rows:
        await self._recorder.caught_up()
        return await self._readers.rows(sql, values)
