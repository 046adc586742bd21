"""The one connection that writes the tables: it takes a whole batch in one call."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar

from muster.broker.projection import tables
from muster.broker.projection.batch import Batch
from muster.broker.projection.connection import Threaded
from muster.mesh.errors import UnavailableError
from muster.mesh.settings import Durability

P = ParamSpec("P")
T = TypeVar("T")


class Writer:
    """Writes batches, one at a time, as long as `async with writer:`."""

    def __init__(self, path: Path, durability: Durability) -> None:
        self._path = path
        self._connection = Threaded(partial(tables.connect, path, durability))

    async def __aenter__(self) -> Self:
        try:
            await self._connection.open()
        except sqlite3.Error as error:
            raise self._trouble(str(error)) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connection.shut()

    async def write(self, batch: Batch, events_age: timedelta = tables.EVENTS_AGE) -> None:
        """Returns once the batch is committed.  If the caller is cancelled meanwhile, it can be either way.

        Raises:
            UnavailableError: it is not committed; it may be written again.
        """
        await self.call(tables.write, batch, events_age)

    async def call(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **more: P.kwargs
    ) -> T:
        """Returns what a function returns that is called with the connection, between two batches.

        Raises:
            UnavailableError: the tables cannot be written.
        """
        try:
            return await self._connection.call(function, *args, **more)
        except sqlite3.Error as error:
            raise self._trouble(str(error)) from error

    def _trouble(self, why: str) -> UnavailableError:
        return UnavailableError(
            f"the projection {self._path} cannot be written: {why}; nothing is lost, it is retried every second"
        )
