"""Follows the log: the state machine first, then the tables, then whoever listens.

Answers to appenders and releases to the leader go out as soon as a record is applied; they depend on the log alone.
Events go out when their rows are committed, so whoever hears of something can query it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from muster.broker.log import Follower, Log
from muster.broker.log_check import check_log
from muster.broker.projection.batch import Batch
from muster.broker.projection.recorder import SLICE, Recorder
from muster.broker.state.apply import apply
from muster.broker.state.changes import Changes
from muster.broker.state.world import World
from muster.mesh.jetstream import moment, stamp
from muster.mesh.service import Service

log = structlog.get_logger()

REBUILT_EVENTS: Final = 100_000
"""Records of which a rebuilt projection has the events; whoever asks for earlier ones learns that they are gone."""


class Projector(Service):
    """Applies every record once, in order, and hands what it changed to the recorder.

    Ready once the tables have what was on the log at the time of starting.
    """

    def __init__(self, client: Client, state: World, recorder: Recorder, appended: Log) -> None:
        super().__init__()
        self._client = client
        self._state = state
        self._recorder = recorder
        self._log = appended
        self._follower = Follower(client)
        self._goal = 0
        self.on_changes: list[Callable[[Sequence[Changes]], None]] = []
        """Called with what each slice of records changed, as soon as it is applied; must not block."""

    async def run(self) -> None:
        """Follows the log until cancelled."""
        self._goal = await check_log(self._client, self._state.seq, self._state.time)
        if not self._state.seq:
            self._state.reports_after = self._goal - REBUILT_EVENTS
        self._recorder.on_committed.insert(0, self._note_ready)
        self._note_ready()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._apply_all())
                tasks.create_task(self._recorder.run())
        except ExceptionGroup as group:
            raise group.exceptions[0] from None

    def renew(self) -> None:
        """Asks for the log again after a reconnect."""
        self._follower.renew()
        self._recorder.renew()

    async def _apply_all(self) -> None:
        async for messages in self._follower.batches(self._state.seq):
            for start in range(0, len(messages), SLICE):
                await self._recorder.room()
                self._apply(messages[start : start + SLICE])
                await asyncio.sleep(0)

    def _apply(self, messages: list[Msg]) -> None:
        state, appended = self._state, self._log
        applied, size = [], 0
        for message in messages:
            seq, time = stamp(message)
            changes = apply(state, seq, moment(time), message.subject, message.data)
            size += len(message.data)
            applied.append(changes)
            if appended.has_appenders:
                appended.applied(message.subject, message.data, changes)
        self._recorder.add(applied, size)
        for notify in self.on_changes:
            notify(applied)

    def _note_ready(self, _: Batch | None = None) -> None:
        if self._recorder.committed >= self._goal:
            self._recorder.may_drop = True
            self.ready.set()
