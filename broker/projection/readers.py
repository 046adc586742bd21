"""A few connections that read the tables: a long list keeps one of them busy, and neither the others nor the writer."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, Final, ParamSpec, Self, TypeVar

from muster.broker.projection.connection import Threaded
from muster.mesh.errors import UnavailableError

READERS: Final = 4

P = ParamSpec("P")
T = TypeVar("T")

READ_TIMEOUT: Final = 30.0
"""Seconds for one answer, with the wait for a connection."""

PAGE_SIZE: Final = 4 * 2**20
"""Bytes of documents on one page, about: an answer must fit in a NATS message, and many are made at a time."""

Rows = list[tuple[Any, ...]]


class Readers:
    """Answers SQL, `READERS` questions at a time, as long as `async with readers:`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._all: list[Threaded] = []
        self._idle = asyncio.LifoQueue[Threaded]()

    async def __aenter__(self) -> Self:
        try:
            for _ in range(READERS):
                connection = Threaded(self._connected)
                await connection.open()
                self._all.append(connection)
                self._idle.put_nowait(connection)
        except sqlite3.Error as error:
            await self._close()
            raise self._trouble(str(error)) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    def _connected(self) -> sqlite3.Connection:
        uri = f"{self._path.absolute().as_uri()}?mode=ro"
        return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)

    async def _close(self) -> None:
        for connection in self._all:
            await connection.interrupt()
            await connection.shut()

    async def rows(self, sql: str, values: Sequence[Any]) -> Rows:
        """Returns all rows of a question.

        Raises:
            UnavailableError: the file cannot be read, or not in time.
        """
        return await self._asked(_all, sql, values)

    async def page(self, sql: str, values: Sequence[Any], limit: int) -> tuple[Rows, bool]:
        """Returns at most `limit` rows, whose last column is a document, and whether there are more.

        Raises:
            UnavailableError: as above.
        """
        return await self._asked(_page, sql, values, limit)

    async def _asked(
        self, ask: Callable[Concatenate[sqlite3.Connection, P], T], *values: P.args, **more: P.kwargs
    ) -> T:
        try:
            async with asyncio.timeout(READ_TIMEOUT), self._connection() as connection:
                return await connection.call(ask, *values, **more)
        except sqlite3.Error as error:
            raise self._trouble(str(error)) from error
        except TimeoutError:
            raise self._trouble(f"there is no answer after {READ_TIMEOUT:g} s; ask for a shorter list") from None

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Threaded]:
        connection = await self._idle.get()
        try:
            yield connection
        except asyncio.CancelledError:
            with suppress(ValueError):  # it was closed meanwhile
                await connection.interrupt()  # nobody waits for the answer
            raise
        finally:
            self._idle.put_nowait(connection)

    def _trouble(self, why: str) -> UnavailableError:
        return UnavailableError(f"the projection {self._path} cannot be read: {why}")


def _all(connection: sqlite3.Connection, sql: str, values: Sequence[Any]) -> Rows:
    return connection.execute(sql, values).fetchall()


def _page(connection: sqlite3.Connection, sql: str, values: Sequence[Any], limit: int) -> tuple[Rows, bool]:
    rows: Rows = []
    size = 0
    with closing(connection.execute(sql, values)) as found:
        for row in found:
            size += len(row[-1])
            if rows and (len(rows) == limit or size > PAGE_SIZE):
                return rows, True
            rows.append(row)
    return rows, False
