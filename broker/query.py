"""What people ask: orders, objects, events.

An answer holds everything that was applied when it was asked, unless the tables are behind: then it holds what they
have, and `age` says how old that is.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

import msgspec

from muster.blueprints.expressions import Filter
from muster.blueprints.objects import ELEMENT, KIND, element_kinds, object_kinds
from muster.broker.log import Log
from muster.broker.past_events import PastEvents
from muster.broker.planning.targets import suggestion
from muster.broker.projection.readers import Readers
from muster.broker.projection.recorder import Recorder
from muster.broker.state.aggregate import aggregates
from muster.broker.state.waiting import waiting_of, words_of
from muster.broker.state.world import World
from muster.broker.troubles import Reported
from muster.mesh.errors import NotFoundError, RefusedError, UnavailableError, UsageError
from muster.mesh.firing import Firing
from muster.mesh.model import Order, OrderState
from muster.mesh.names import order_of
from muster.mesh.structs import Wire

READ_TIMEOUT: Final = 5.0
"""Seconds to wait until what is on the log is here too."""

LOOK: Final = 0.002
"""Seconds between two looks for it."""

CANDIDATES: Final = 5
"""Ids shown when a prefix fits several."""

_order = msgspec.json.Decoder(Order)
_firing = msgspec.json.Decoder(Firing)

_FIRST_PAGE: Final = 2**63 - 1

_AT_AGENTS: Final = frozenset({OrderState.OFFERED, OrderState.RUNNING, OrderState.CANCELLING})
"""States in which agents decide what happens next."""

_NUMBER: Final = re.compile(r"[0-9]{1,18}")
"""As large as SQLite can compare them, and then some."""


class OrderFilter(Wire):
    """Which orders to list, newest first."""

    state: OrderState | None = None
    element: str | None = None
    blueprint: str | None = None
    pool: str | None = None
    since: datetime | None = None
    parent: str | None = None
    limit: int = 100
    cursor: str | None = None


class Page(Wire):
    """One page of a list; `next` is the cursor of the page behind it."""

    items: list[Any]
    next: str | None = None


class Query:
    """Reads the tables, and the live state where that is fresher."""

    def __init__(self, readers: Readers, state: World, recorder: Recorder, log: Log) -> None:
        self._readers = readers
        self._state = state
        self._recorder = recorder
        self._log = log
        self.past_events = PastEvents(readers, recorder)
        self.reported = Reported()
        self.trouble: Callable[[], str] = lambda: ""
        """Why not everything can be stored just now."""
        self.trouble_of: Callable[[str], str] = lambda _: ""
        """What is wrong with an element's agent."""

    # -- orders ---------------------------------------------------------------------------------

    async def order(self, prefix: str) -> Order:
        """The order of this id, or of the only id that starts so.

        Raises:
            NotFoundError: there is none.
            RefusedError: there are several; they are named.
        """
        found = self._state.orders.get(prefix)
        if found is None:
            found = _order.decode(await self._only("orders", "order", prefix))
        return self._explained(found)

    async def runner_of(self, order: str, attempt: int) -> str | None:
        """The element that an attempt at an order ran on, as the log has it; None if there was no such attempt.

        Whoever writes output has claimed before: what is on the log now decides about an attempt that is not known.
        """
        found = await self.order(order)
        if attempt > found.attempt:
            await self.read_up_to(order)
            found = await self.order(order)
        return found.runner_of(attempt)

    async def read_up_to(self, order: str) -> bool:
        """Wait, for a while, until what the log has of an order is here too: another broker may be ahead of us."""
        last = await self._log.last_of(order)
        with suppress(TimeoutError):
            async with asyncio.timeout(READ_TIMEOUT):
                while self._state.seq < last:  # noqa: ASYNC110 - the state has no event to wait for; this is rare and short
                    await asyncio.sleep(LOOK)
        return self._state.seq >= last

    def _explained(self, order: Order) -> Order:
        """Returns the order, with why nobody has started it if it is offered, and with a lost agent if it runs."""
        if order.state not in _AT_AGENTS or order.id not in self._state.orders:
            return order
        waiting = waiting_of(order, self._state)
        if waiting is None:
            return order
        before = "its clean-up waits: " if order.state is OrderState.OFFERED else ""
        reason = f"{order.reason}; {before}{words_of(waiting)}" if order.reason else words_of(waiting)
        return msgspec.structs.replace(order, waiting=waiting, reason=reason)

    async def _only(self, table: str, noun: str, prefix: str) -> bytes:
        if not (prefix.isascii() and prefix.isalnum()):
            raise NotFoundError(f"there is no {noun} {prefix!r}")
        sql = f"SELECT id, doc FROM {table} WHERE id >= ? AND id < ? ORDER BY id LIMIT ?"  # noqa: S608 - our own words
        rows = await self._rows(sql, (prefix, prefix + "{", CANDIDATES + 1))
        if not rows and (trouble := self._recorder.trouble):
            why = self.trouble() or trouble
            raise UnavailableError(f"the projection does not have the {noun} {prefix!r} yet: {why}")
        if not rows:
            raise NotFoundError(f"there is no {noun} {prefix!r}")
        if len(rows) > 1 and rows[0][0] != prefix:
            candidates = ", ".join(row[0] for row in rows[:CANDIDATES])
            more = " …" if len(rows) > CANDIDATES else ""
            raise RefusedError(f"{prefix!r} is the start of several {noun}s: {candidates}{more}")
        return bytes(rows[0][1])

    async def orders(self, wanted: OrderFilter) -> Page:
        """A page of orders, newest first."""
        conditions, values = _conditions(wanted)
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        sql = f"SELECT n, doc FROM orders {where} ORDER BY n DESC"  # noqa: S608 - conditions are our own words
        rows, more = await self._page(sql, values, wanted.limit)
        items = [self._explained(_order.decode(row[1])) for row in rows]
        return Page(items=items, next=str(rows[-1][0]) if more else None)

    async def history(self, order: Order) -> list[dict[str, Any]]:
        """Every record about an order, from the log itself; first the one that made it."""
        entries = await self._log.records_of("order", order.id)
        if order.firing is None:
            return entries
        first = order_of(order.firing, 0)
        if order.id != first:
            entries = (await self._log.records_of("order", first))[:1] + entries
        made = entries[0]["data"]  # what it says of others, and the whole event, is with the firing
        entries[0]["data"] = {name: value for name, value in made.items() if name not in {"event", "orders"}}
        return entries

    # -- firings --------------------------------------------------------------------------------

    async def firing(self, prefix: str) -> Firing:
        """The firing of this id, or of the only id that starts so.

        Raises:
            NotFoundError: there is none.
            RefusedError: there are several; they are named.
        """
        return _firing.decode(await self._only("firings", "firing", prefix))

    async def firings(self, trigger: str, limit: int, cursor: str | None) -> Page:
        """A page of a trigger's firings, newest first.

        Raises:
            NotFoundError: there is no such trigger, and never was.
        """
        sql = "SELECT seq, doc FROM firings WHERE trigger_name = ? AND seq < ? ORDER BY seq DESC"
        rows, more = await self._page(sql, (trigger, _cursor(cursor)), limit)
        if not rows:
            await self.object("trigger", trigger)
        return Page(items=[_firing.decode(row[1]) for row in rows], next=str(rows[-1][0]) if more else None)

    # -- objects --------------------------------------------------------------------------------

    async def object(self, kind: str, name: str) -> dict[str, Any]:
        """One object with what is known of it at present.

        Raises:
            NotFoundError: there is none, or no such kind.
        """
        known = self._known(kind)
        if name not in known:
            raise NotFoundError(f"there is no {kind} {name!r}{suggestion(name, known)}")
        return self._document(known[name], name)

    async def element(self, name: str) -> dict[str, Any]:
        """One element, of whichever kind."""
        return await self.object(ELEMENT, name)

    async def objects(self, kind: str, where: str | None, limit: int, cursor: str | None) -> Page:
        """A page of objects by name; `where` is a filter over elements.

        Raises:
            InvalidError: the filter is not valid.
            UsageError: a filter for a kind that is not an element.
        """
        known = self._known(kind)
        names = sorted(known)
        if where:
            if kind not in {ELEMENT, *element_kinds()}:
                raise UsageError(f"where filters elements (of the kinds {', '.join(element_kinds())}), not {kind}s")
            chosen = Filter(where)
            names = [name for name in names if chosen.matches(self._state.fleet.view(name))]
        if cursor:
            names = [name for name in names if name > cursor]
        more = names[limit - 1] if len(names) > limit else None
        return Page(items=[self._document(known[name], name) for name in names[:limit]], next=more)

    def _known(self, kind: str) -> Mapping[str, str]:
        """Returns the names that are known of a kind, each with the kind of its object.

        Raises:
            NotFoundError: there is no such kind.
        """
        if kind == ELEMENT:
            return {name: element.kind for name, element in self._state.elements.items()}
        if kind == KIND:
            return dict.fromkeys(object_kinds(), KIND)
        found = {name: kind for its_kind, name in self._state.objects.stored if its_kind == kind}
        if not found and kind not in object_kinds():
            raise NotFoundError(f"there is no kind {kind!r}{suggestion(kind, object_kinds())}")
        return found

    def _document(self, kind: str, name: str) -> dict[str, Any]:
        if kind == KIND:
            found = object_kinds()[name]
            about = {"summary": found.summary, "plural": found.plural, "is_element": found.is_element}
            return {"kind": KIND, "name": name, **about}
        stored = self._state.objects.stored[kind, name]
        document = {
            **stored.manifest,
            "version": stored.version,
            "created_at": stored.created_at,
            "changed_at": stored.changed_at,
        }
        for aggregate in aggregates():
            document |= aggregate.shown(self._state, kind, name)
        if (why := self._state.objects.unreadable.get((kind, name))) is not None:
            document["unreadable"] = why
        if kind == "trigger":
            document["trouble"] = self.reported.of(name)
        elif stored.is_element:
            document["trouble"] = self.trouble_of(name)
        return document

    # -- inside ---------------------------------------------------------------------------------

    @property
    def age(self) -> float:
        """Seconds by which answers may be out of date; 0 unless the tables are behind."""
        return self._recorder.age if self._recorder.trouble else 0.0

    async def _rows(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Returns what the tables have: everything applied by now, unless they are behind for longer."""
        await self._recorder.caught_up()
        return await self._readers.rows(sql, values)

    async def _page(self, sql: str, values: Sequence[Any], limit: int) -> tuple[list[tuple[Any, ...]], bool]:
        await self._recorder.caught_up()
        return await self._readers.page(sql, values, limit)


def _conditions(wanted: OrderFilter) -> tuple[list[str], list[Any]]:
    conditions: list[str] = []
    values: list[Any] = []
    for column in ("state", "element", "blueprint", "pool", "parent"):
        if (value := getattr(wanted, column)) is not None:
            conditions.append(f"{column} = ?")
            values.append(value)
    if wanted.state is not None and wanted.state not in {OrderState.FINISHED, OrderState.FAILED, OrderState.CANCELLED}:
        conditions.append("finished IS NULL")
    if wanted.since is not None:
        conditions.append("created >= ?")
        values.append(wanted.since.timestamp())
    if wanted.cursor is not None:
        conditions.append("n < ?")
        values.append(_cursor(wanted.cursor))
    return conditions, values


def _cursor(given: str | None) -> int:
    if given is None:
        return _FIRST_PAGE
    if not _NUMBER.fullmatch(given):
        raise UsageError(f"{given[:80]!r} is not a cursor; use `next` of the previous page")
    return int(given)
