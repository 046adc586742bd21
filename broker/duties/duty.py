"""The shape of a duty, and the loop that all duties share."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import ClassVar, Final

import structlog

from muster.broker.leader import Leader
from muster.broker.log import Log
from muster.broker.state.world import World
from muster.mesh.errors import UnavailableError
from muster.mesh.jetstream import LostRaceError
from muster.mesh.records import Record
from muster.mesh.service import Service

log = structlog.get_logger()


APPENDED_AT_ONCE: Final = 256
"""Records of one duty that are on their way to the log at the same time."""


class Duty(ABC):
    """Something that the leader does as time passes.  Two leaders do no harm: the state machine refuses duplicates."""

    every: ClassVar[float] = 1.0
    """Seconds between two runs."""

    @abstractmethod
    def run_once(self, state: World, now: datetime) -> Iterable[Record]:
        """Returns the records that are due now."""


class Duties(Service):
    """Runs duties while this broker leads."""

    def __init__(self, state: World, appender: Log, leader: Leader, duties: Sequence[Duty]) -> None:
        super().__init__()
        self._state = state
        self._log = appender
        self._leader = leader
        self._duties = duties
        self.now: Callable[[], datetime] = lambda: datetime.now(UTC)

    async def run(self) -> None:
        """Runs every duty until cancelled."""
        self.ready.set()
        async with asyncio.TaskGroup() as tasks:
            for duty in self._duties:
                tasks.create_task(self._attend(duty), name=type(duty).__name__)

    async def _attend(self, duty: Duty) -> None:
        while True:
            await asyncio.sleep(duty.every)
            if not self._leader.leads:
                continue
            try:
                await self._do(duty)
            except UnavailableError as error:
                log.warning("duty.waits", duty=type(duty).__name__, error=str(error))
            except Exception:  # a bug with one thing must not end the broker: it would find it again
                log.exception("duty.bug", duty=type(duty).__name__)

    async def _do(self, duty: Duty) -> None:
        due = list(duty.run_once(self._state, self.now()))
        for start in range(0, len(due), APPENDED_AT_ONCE):
            appended = map(self._append, due[start : start + APPENDED_AT_ONCE])
            results = await asyncio.gather(*appended, return_exceptions=True)
            for failure in results:
                if failure is not None:
                    raise failure

    async def _append(self, record: Record) -> None:
        with suppress(LostRaceError):  # another leader was faster
            await self._log.append(record)
