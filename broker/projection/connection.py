"""A connection to SQLite on a thread of its own, and what we need of aiosqlite's inside."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Concatenate, Final, ParamSpec, TypeVar

import structlog
from aiosqlite import Connection

log = structlog.get_logger()

CLOSE_TIMEOUT: Final = 5.0
"""Seconds to finish what the thread is doing when the broker stops; the log has everything anyway."""

P = ParamSpec("P")
T = TypeVar("T")


class Threaded(Connection):
    """A connection that takes whole functions: each is one call to its thread and one answer."""

    def __init__(self, connector: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(connector, iter_chunk_size=64)
        self._thread.daemon = True  # a disk that hangs must not keep the process from ending

    async def open(self) -> None:
        """Opens the file.

        Raises:
            sqlite3.Error: it cannot be opened.
        """
        try:
            await self
        except sqlite3.Error:
            self._thread.join(CLOSE_TIMEOUT)  # it ends by itself, and still has a word with the loop
            raise

    async def call(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **more: P.kwargs
    ) -> T:
        """Returns what a function returns that is called with the connection, on its thread.

        If the caller is cancelled, the function still runs to its end.
        """
        result: T = await self._execute(function, self._conn, *args, **more)  # type: ignore[no-untyped-call]
        return result

    async def shut(self) -> None:
        """Closes the file once the thread has finished; if that takes too long, the thread is abandoned."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self.close()
        except (TimeoutError, sqlite3.Error) as error:
            log.warning("projection.not_closed", why=repr(error))
