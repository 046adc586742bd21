"""What people ask: orders, objects, events.  Every answer holds all that was applied when it was asked."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from muster.blueprints.expressions import Filter
from muster.blueprints.manifest import object_kinds
from muster.broker.log import Log
from muster.broker.projection.projector import Projector
from muster.broker.state.fleet import is_element_kind
from muster.broker.state.machine import State
from muster.broker.targets import suggestion
from muster.mesh.errors import NotFoundError, RefusedError, UnavailableError, UsageError
from muster.mesh.events import Event, from_cloud_event
from muster.mesh.model import Order, OrderState, Wire

PATIENCE: Final = 10.0
"""Seconds that a question waits for the tables to catch up."""

CANDIDATES: Final = 5
"""Ids shown when a prefix fits several."""

_order = msgspec.json.Decoder(Order)

T = TypeVar("T")


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
    """Reads the tables on a thread and a connection of its own, and the live state where that is fresher."""

    def __init__(self, path: Path, state: State, projector: Projector, log: Log) -> None:
        self._path = path
        self._state = state
        self._projector = projector
        self._log = log
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="query")
        self._connection: sqlite3.Connection | None = None

    def close(self) -> None:
        """Stop answering."""
        self._thread.shutdown()
        if self._connection is not None:
            self._connection.close()

    # -- orders ---------------------------------------------------------------------------------

    async def order(self, prefix: str) -> Order:
        """The order of this id, or of the only id that starts so.

        Raises:
            NotFoundError: there is none.
            RefusedError: there are several; they are named.
        """
        found = self._state.orders.get(prefix)
        if found is not None:
            return found
        if not prefix.isalnum():
            raise NotFoundError(f"there is no order {prefix!r}")
        sql = "SELECT id, doc FROM orders WHERE id >= ? AND id < ? ORDER BY id LIMIT ?"
        rows = await self._rows(sql, (prefix, prefix + "{", CANDIDATES + 1))
        if not rows:
            raise NotFoundError(f"there is no order {prefix!r}")
        if len(rows) > 1 and rows[0][0] != prefix:
            candidates = ", ".join(row[0] for row in rows[:CANDIDATES])
            more = " …" if len(rows) > CANDIDATES else ""
            raise RefusedError(f"{prefix!r} is the start of several orders: {candidates}{more}")
        return _order.decode(rows[0][1])

    async def orders(self, wanted: OrderFilter) -> Page:
        """A page of orders, newest first."""
        conditions, values = _conditions(wanted)
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        sql = f"SELECT n, doc FROM orders {where} ORDER BY n DESC LIMIT ?"  # noqa: S608 - conditions are our own words
        rows = await self._rows(sql, (*values, wanted.limit + 1))
        items = [_order.decode(row[1]) for row in rows[: wanted.limit]]
        return Page(items=items, next=str(rows[wanted.limit - 1][0]) if len(rows) > wanted.limit else None)

    async def history(self, order_id: str) -> list[dict[str, Any]]:
        """Every record about an order, from the log itself."""
        return await self._log.records_of(order_id)

    # -- objects --------------------------------------------------------------------------------

    async def object(self, kind: str, name: str) -> dict[str, Any]:
        """One object with what is known of it at present.

        Raises:
            NotFoundError: there is none, or no such kind.
        """
        if kind not in object_kinds():
            raise NotFoundError(f"there is no kind {kind!r}{suggestion(kind, object_kinds())}")
        if (kind, name) not in self._state.fleet.stored:
            known = [its_name for its_kind, its_name in self._state.fleet.stored if its_kind == kind]
            raise NotFoundError(f"there is no {kind} {name!r}{suggestion(name, known)}")
        return self._told(kind, name)

    async def element(self, name: str) -> dict[str, Any]:
        """One element, of whichever kind."""
        element = self._state.fleet.elements.get(name)
        if element is None:
            raise NotFoundError(f"there is no element {name!r}{suggestion(name, self._state.fleet.elements)}")
        return self._told(element.kind, name)

    async def objects(self, kind: str, where: str | None, limit: int, cursor: str | None) -> Page:
        """A page of objects by name; `where` is a filter over elements.

        Raises:
            InvalidError: the filter is not valid.
            UsageError: a filter for a kind that is no element.
        """
        if kind not in object_kinds():
            raise NotFoundError(f"there is no kind {kind!r}{suggestion(kind, object_kinds())}")
        names = sorted(name for its_kind, name in self._state.fleet.stored if its_kind == kind)
        if where:
            if not is_element_kind(kind):
                raise UsageError(f"where filters elements (machines, clusters, resource brokers), not {kind}s")
            chosen = Filter(where)
            names = [name for name in names if chosen.matches(self._state.fleet.view(name))]
        if cursor:
            names = [name for name in names if name > cursor]
        more = names[limit - 1] if len(names) > limit else None
        return Page(items=[self._told(kind, name) for name in names[:limit]], next=more)

    def _told(self, kind: str, name: str) -> dict[str, Any]:
        fleet = self._state.fleet
        stored = fleet.stored[kind, name]
        told = {
            **stored.manifest,
            "version": stored.version,
            "created_at": stored.created_at,
            "changed_at": stored.changed_at,
        }
        if kind == "pool":
            told["members"] = sorted(fleet.members.get(name, ()))
        element = fleet.elements.get(name)
        if element is None or element.kind != kind:
            return told
        manifest = fleet.manifest_of(name)
        return {
            **told,
            "labels": manifest.labels if manifest else {},
            "params": fleet.params(name)[0],
            "slots": manifest.slots if manifest else 1,
            "mode": element.mode,
            "drained": element.drained,
            "online": element.agent is not None,
            "agent": element.agent,
            "since": element.since,
            "pools": list(fleet.pools_of(name)),
            "running": self._state.shelves.held(name),
        }

    # -- events ---------------------------------------------------------------------------------

    async def events(self, after: str | None, kind: str | None, limit: int) -> list[Event]:
        """Events behind one (all that are kept if None), oldest first; `kind` may end in `.*`."""
        seq, _, place = (after or "0.-1").partition(".")
        try:
            values: list[Any] = [int(seq), int(place or -1)]
        except ValueError:
            raise UsageError(f"{after!r} is no event id; they look like 123.0") from None
        sql = "SELECT doc FROM events WHERE (seq, place) > (?, ?)"
        if kind:
            sql += " AND kind GLOB ?"
            values.append(kind if "." in kind or "*" in kind else f"{kind}.*")
        rows = await self._rows(f"{sql} ORDER BY seq, place LIMIT ?", (*values, limit))
        return [from_cloud_event(row[0]) for row in rows]

    # -- inside ---------------------------------------------------------------------------------

    async def _rows(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        try:
            async with asyncio.timeout(PATIENCE):
                await self._projector.caught_up()
        except TimeoutError:
            raise UnavailableError(self._projector.trouble or "the projection is behind the log; try again") from None
        return await self._on_thread(lambda: self._connected().execute(sql, values).fetchall())

    async def _on_thread(self, ask: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, ask)

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = sqlite3.connect(
                f"{self._path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False
            )
            self._connection.execute("PRAGMA busy_timeout = 5000")
        return self._connection


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
        if not wanted.cursor.isdigit():
            raise UsageError(f"{wanted.cursor!r} is no cursor; take `next` of the page before")
        conditions.append("n < ?")
        values.append(int(wanted.cursor))
    return conditions, values
