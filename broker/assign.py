"""The leader maintains what others read: consumers, assignments, blueprint versions, triggers' definitions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Final, TypeVar

import msgspec
import nats.errors
import structlog
from msgspec.structs import replace
from nats.aio.client import Client
from nats.js.errors import Error as JetStreamError
from nats.js.errors import KeyNotFoundError

from muster.blueprints.definition import Blueprint
from muster.broker import consumers
from muster.broker.definitions import Definitions
from muster.broker.leader import Leader
from muster.broker.lease import Lease
from muster.broker.mirror import Mirror
from muster.broker.state.changes import Changes
from muster.broker.state.world import World
from muster.mesh import names
from muster.mesh.bucket import reading
from muster.mesh.errors import UnavailableError
from muster.mesh.jetstream import LostRaceError, Publisher
from muster.mesh.service import Service

log = structlog.get_logger()

CHANGED_AT_ONCE: Final = 64
"""Things that are being changed at the same time."""

DEFINITIONS_AT_ONCE: Final = 512
"""Definitions that are being written at the same time: each is one message."""

RETRY_DELAY: Final = 0.5
"""Seconds before a failed change is retried."""

Key = TypeVar("Key")


class Assignments(Service):
    """Makes consumers and buckets agree with the state."""

    def __init__(self, client: Client, publisher: Publisher, state: World, leader: Leader, lease: Lease) -> None:
        super().__init__()
        self._client = client
        self._js = client.jetstream()
        self._mirror = Mirror(client, publisher, names.ASSIGNMENT_BUCKET)
        self._definitions = Definitions(client, publisher, state)
        self._state = state
        self._leader = leader
        self._lease = lease
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._blueprints: dict[str, None] = {}
        self._pools: dict[str, None] = {}
        self._elements: dict[str, None] = {}
        self._triggers: dict[str, None] = {}
        self._doubtful = False
        """Whether all consumers and buckets must be compared with the state."""

    def observe(self, applied: Sequence[Changes]) -> None:
        """Queues the changes that some records need."""
        for changes in applied:
            for kind, _, name in (ident.partition("/") for ident in changes.ids("object")):
                if kind == "blueprint":
                    self._blueprints[name] = None
                elif kind == "pool":
                    self._pools[name] = None
                elif kind == "trigger":
                    self._triggers[name] = None
            if changes.queues:
                self._pools.update(dict.fromkeys(changes.queues))
            self._elements.update(dict.fromkeys(changes.assignments))
        if self._blueprints or self._pools or self._elements or self._triggers:
            self._wake.set()

    def observe_everything(self) -> None:
        """Queues everything: the leader before may have stopped half-way."""
        for kind, name in self._state.objects.stored:
            if kind == "blueprint":
                self._blueprints[name] = None
            elif kind == "pool":
                self._pools[name] = None
        self._pools.update(dict.fromkeys(self._state.pools.queues()))
        self._elements.update(dict.fromkeys(self._state.elements))
        self._doubtful = True
        self._wake.set()

    async def rewrite(self) -> None:
        """Writes every assignment again after a change of the lease, and waits until that is done."""
        self._elements.update(dict.fromkeys(self._state.elements))
        self._idle.clear()
        self._wake.set()
        await self._idle.wait()

    async def run(self) -> None:
        """Makes the queued changes until cancelled."""
        self.ready.set()
        while True:
            await self._wake.wait()
            self._wake.clear()
            if not self._leader.leads:
                self._forget()
                continue
            await self._work_off(self._blueprints, self._keep_blueprint)
            await self._work_off(self._pools, self._keep_pool)
            await self._work_off(self._elements, self._keep_element)
            if self._doubtful and await _tried(self._find_doubtful, "what was deleted"):
                self._doubtful = False
            await self._work_off(self._triggers, self._definitions.keep, most=DEFINITIONS_AT_ONCE)
            if self._doubtful or self._triggers or self._pools or self._elements:
                self._wake.set()
            else:
                self._idle.set()

    def _forget(self) -> None:
        """Drops the queues: another broker leads, and has queued everything."""
        for todo in (self._blueprints, self._pools, self._elements, self._triggers):
            todo.clear()
        self._doubtful = False
        self._idle.set()

    async def _find_doubtful(self, _: str) -> None:
        """Finds what belongs to deleted things: a leader may have died before it removed that."""
        self._triggers.update(dict.fromkeys(await self._definitions.doubtful()))
        for kind, name in map(names.served_by, await consumers.all_names(self._client, names.WORK_STREAM)):
            if kind == "pool" and not self._is_pool(name):
                self._pools[name] = None
            elif kind == "element" and not self._is_element(name):
                self._elements[name] = None
        async with reading(self._client, names.ASSIGNMENT_BUCKET) as bucket:
            while not bucket.is_whole:
                for entry in await bucket.batch():
                    if entry.value is not None and not self._is_element(entry.name):
                        self._elements[entry.name] = None

    async def _work_off(
        self, todo: dict[Key, None], effect: Callable[[Key], Awaitable[None]], most: int | None = None
    ) -> None:
        """Applies an effect to all keys, some at a time; with `most`, to that many, so that other lists have a turn."""
        while todo:
            chosen = list(islice(todo, most or CHANGED_AT_ONCE))
            for key in chosen:
                del todo[key]
            results = await asyncio.gather(*(_tried(effect, key) for key in chosen))
            failed = [key for key, succeeded in zip(chosen, results, strict=True) if not succeeded]
            if failed:
                todo.update(dict.fromkeys(failed))
                self._wake.set()
                await asyncio.sleep(RETRY_DELAY)
                return
            if most is not None:
                return

    async def _keep_blueprint(self, name: str) -> None:
        """Stores a version, for ever: an order that is retried next year still needs it."""
        manifest = self._state.objects.get("blueprint", name)
        if isinstance(manifest, Blueprint):
            await self._put(names.BLUEPRINT_BUCKET, manifest.digest(), manifest.encoded())

    async def _keep_pool(self, name: str) -> None:
        consumer = names.pool_consumer(name)
        subject = names.work_pool(name)
        if not self._is_pool(name):
            await consumers.drop(self._client, names.WORK_STREAM, consumer)
            await self._drop_offers(subject, lambda: self._is_pool(name))
            return
        await consumers.keep(self._client, names.WORK_STREAM, consumer, subject, self._lease.longer)

    def _is_pool(self, name: str) -> bool:
        return self._state.pools.is_queue(name) or self._state.objects.get("pool", name) is not None

    def _is_element(self, name: str) -> bool:
        return name in self._state.elements

    async def _drop_offers(self, subject: str, is_back: Callable[[], bool]) -> None:
        """Removes the offers of a pool or an element that is gone: nobody will claim them.

        If it is created again meanwhile, its new offers are behind the last message of now.
        """
        last = (await self._js.stream_info(names.WORK_STREAM)).state.last_seq
        if not is_back():
            await self._js.purge_stream(names.WORK_STREAM, seq=last + 1, subject=subject)

    async def _keep_element(self, name: str) -> None:
        consumer, as_of = names.element_consumer(name), self._state.seq
        subject = names.work_element(name)
        assignment = self._state.fleet.assignment(name)
        if assignment is None:
            await self._mirror.write(name, None, as_of)
            await consumers.drop(self._client, names.WORK_STREAM, consumer)
            await self._drop_offers(subject, lambda: self._is_element(name))
            return
        await consumers.keep(self._client, names.WORK_STREAM, consumer, subject, self._lease.longer)
        assignment = replace(assignment, lease=self._lease.shorter.total_seconds())
        await self._mirror.write(name, msgspec.json.encode(assignment), as_of)

    async def _put(self, bucket: str, key: str, data: bytes) -> None:
        store = await self._js.key_value(bucket)
        try:
            if (await store.get(key)).value == data:
                return
        except KeyNotFoundError:
            pass
        await store.put(key, data)


async def _tried(effect: Callable[[Key], Awaitable[None]], key: Key) -> bool:
    try:
        await effect(key)
    except (JetStreamError, nats.errors.Error, UnavailableError, LostRaceError, TimeoutError, OSError) as error:
        log.warning("assignment.failed", about=key, error=repr(error))
        return False
    return True
