"""What all orders of an agent share: the connection, the stores, the limits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec
import structlog
from nats.aio.client import Client

from muster.agent.cgroups import Cgroups
from muster.agent.clock import Clock
from muster.agent.isolation import Isolation
from muster.agent.lease import Lease
from muster.agent.output import Outputs
from muster.agent.plan import Shelf
from muster.agent.settings import AgentSettings
from muster.agent.spawning import Spawner
from muster.blueprints.reach import Reach
from muster.mesh import records
from muster.mesh.errors import TooLargeError, UnavailableError
from muster.mesh.jetstream import MSG_ID, PubAck, Publisher

log = structlog.get_logger()

HEADERS: Final = 4096
"""Bytes of a message that its headers may take."""

RETRY_DELAY: Final = 0.25
"""Seconds between two tries to write a record."""


class Workshop(msgspec.Struct, frozen=True, kw_only=True):
    """Passed to every part that handles an order."""

    agent: str
    """Id of this daemon, new at each start."""
    place: str
    """Host and state folder."""
    settings: AgentSettings
    clock: Clock
    client: Client
    publisher: Publisher
    lease: Lease
    shelf: Shelf
    outputs: Outputs
    spawner: Spawner
    folder: Path
    """Where working folders are made."""
    isolation: Isolation
    """What every order has."""
    is_unconfined: bool
    """Whether tasks run as root, without isolation."""
    cgroups: Cgroups
    closing: asyncio.Event
    """Set once this agent is about to stop: what must not run twice does not start any more."""
    environment: Mapping[str, str]
    """What of our own environment is for programs of tasks."""
    reach: Reach
    """Where we may connect to for tasks."""
    next_id: Callable[[], str]
    """A message id that nobody else uses: what is sent again keeps it, so JetStream stores it once."""


async def write(
    shop: Workshop,
    record: records.OrderRecord,
    actor: str,
    may_continue: Callable[[], bool],
    headers: Mapping[str, str] | None = None,
) -> PubAck | None:
    """Appends a record to the log, until it is acknowledged; None if `may_continue` says no.

    Only a compare-and-set carries a message id, by which its own second copy is known.  Second copies
    of other records are refused by the state machine, and headers cost every reader of the log time.

    Raises:
        LostRaceError: a compare-and-set in `headers` failed.
        TooLargeError: no NATS server of this mesh takes a record of its size.
    """
    subject, data = records.subject(record, actor), records.encode(record)
    if len(data) > shop.client.max_payload - HEADERS:
        raise TooLargeError(f"a record of {len(data)} bytes is more than the NATS server takes")
    marked = {MSG_ID: shop.next_id(), **headers} if headers else None
    while True:
        try:
            return await shop.publisher.send(subject, data, marked)
        except UnavailableError as error:
            await back_off(record, error)
        if not may_continue():
            return None


async def back_off(record: records.OrderRecord, error: UnavailableError) -> None:
    """Waits before the next try."""
    log.debug("record.retried", order=record.order, type=type(record).__name__, error=str(error))
    await asyncio.sleep(RETRY_DELAY)
