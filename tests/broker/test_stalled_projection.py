"""A projection that cannot be written holds up no order, says so, answers what it has, and catches up by itself."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import httpx
import pytest

from muster.broker.api.context import AGE_HEADER
from muster.broker.main import Broker
from muster.broker.projection import batch, recorder
from muster.broker.query import OrderFilter
from muster.mesh import names, records
from muster.mesh.caller import Caller
from muster.mesh.errors import UnavailableError
from muster.mesh.http import HttpServer
from muster.mesh.model import OrderState
from tests.kit.waiting import deadline, eventually

REPORTED_WITHIN = 5.0
"""Seconds, of the requirement."""


def life(order: str) -> list[tuple[str, bytes]]:
    """Every record of one order, as broker and agent write them."""
    said: list[tuple[records.OrderRecord, str]] = [
        (
            records.Created(
                order=order, blueprint="nothing", version=1, digest="d", by=Caller(name="test"), element="e1"
            ),
            names.BROKER,
        ),
        (records.Claimed(order=order, attempt=1, element="e1", agent="one"), "e1"),
        (records.Done(order=order, attempt=1, state=OrderState.FINISHED), "e1"),
    ]
    return [(records.subject(record, actor), records.encode(record)) for record, actor in said]


async def run_orders(broker: Broker, first: int, count: int) -> None:
    """Has orders run from start to end, and returns once the broker has applied it all."""
    last = 0
    for start in range(first, first + count, 500):
        waits = [
            broker.publisher.send(subject, data, within=60)
            for number in range(start, min(start + 500, first + count))
            for subject, data in life(f"order{number:06}")
        ]
        last = max(ack.seq for ack in await asyncio.gather(*waits))
    await eventually(lambda: broker.state.seq >= last, within=120, what="the records applied")


@contextmanager
def locked(broker: Broker) -> Iterator[None]:
    """Another program holds a lock on the file."""
    with closing(sqlite3.connect(broker.settings.data / "projection.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


@contextmanager
def hung(broker: Broker) -> Iterator[None]:
    """The thread that writes is stuck, as in a read from a disk that does not answer."""
    release = threading.Event()
    stuck = asyncio.ensure_future(broker.recorder._writer._connection.call(lambda _: release.wait(120)))
    try:
        yield
    finally:
        release.set()
        stuck.add_done_callback(asyncio.Future.result)


@asynccontextmanager
async def full_disk(broker: Broker) -> AsyncIterator[None]:
    """There is no space for another page."""
    connection = broker.recorder._writer._connection
    await connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    (pages,) = (await connection.execute_fetchall("PRAGMA page_count"))[0]  # type: ignore[index]
    await connection.execute(f"PRAGMA max_page_count = {pages}")
    yield
    await connection.execute("PRAGMA max_page_count = 1073741823")


@asynccontextmanager
async def stalled(broker: Broker, how: str) -> AsyncIterator[None]:
    if how == "full disk":
        async with full_disk(broker):
            yield
    else:
        with {"locked": locked, "hung": hung}[how](broker):
            yield


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches that are full at once."""
    monkeypatch.setattr(batch, "MAX_RECORDS", 300)
    monkeypatch.setattr(recorder, "STALL_TIMEOUT", 0.5)
    monkeypatch.setattr(recorder, "RETRY_DELAY", 0.1)


async def ended(broker: Broker) -> int:
    """How many orders the tables have as finished."""
    found = await broker.query._rows("SELECT count(*) FROM orders WHERE state = 'finished'", ())
    return int(found[0][0])


async def events(broker: Broker) -> list[str]:
    """The ids of all events in the tables."""
    rows = await broker.query._rows("SELECT seq || '.' || place FROM events ORDER BY seq, place", ())
    return [row[0] for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["locked", "hung", "full disk"])
@pytest.mark.usefixtures("small")
async def test_orders_continue_while_the_tables_cannot_be_written(broker: Broker, how: str) -> None:
    heard: list[str] = []
    with broker.feed.heard_by(lambda found: heard.extend(event.id for event in found)):
        await run_orders(broker, 0, 10)
        assert await ended(broker) == 10
        async with stalled(broker, how):
            await run_orders(broker, 10, 1000)
            async with deadline(30, "a report of it"):
                while (await broker.status()).ready:
                    await broker.recorder.caught_up()
            assert "projection" in (await broker.status()).reason
            assert broker.recorder._batch is None, "memory is bounded: what cannot be written is dropped"
            assert await ended(broker) < 1010, "what the tables have is still answered"
            assert broker.query.age > 0
            with pytest.raises(UnavailableError, match="does not have the order 'order001009' yet"):
                await broker.query.order("order001009")
        await eventually(lambda: not broker.recorder.trouble, within=60, what="the tables have caught up")
    assert await ended(broker) == 1010
    assert broker.query.age == 0
    assert (await broker.status()).ready
    assert set(heard) <= set(await events(broker))
    assert len(heard) == len(set(heard)), "each event is published once"
    assert sum(1 for event in heard if event) >= 3 * 1010, "none is left out"


@pytest.mark.usefixtures("small")
async def test_tables_that_caught_up_are_those_of_a_replay(broker: Broker, tmp_path: Path) -> None:
    async with stalled(broker, "locked"):
        await run_orders(broker, 0, 500)
    await run_orders(broker, 500, 500)
    await eventually(lambda: not broker.recorder.trouble, within=60)
    assert await ended(broker) == 1000
    found = await broker.query.orders(OrderFilter(limit=1000))
    assert [order.id for order in found.items] == [f"order{number:06}" for number in reversed(range(1000))]
    assert {order.state for order in found.items} == {OrderState.FINISHED}
    kinds = await broker.query._rows("SELECT kind, count(*) FROM events WHERE kind GLOB 'order.*' GROUP BY kind", ())
    assert {kind: count for kind, count in kinds if kind in {"order.created", "order.finished"}} == {
        "order.created": 1000,
        "order.finished": 1000,
    }


@pytest.mark.usefixtures("small")
async def test_a_stall_shows_in_readyz_and_in_the_age_of_answers(broker: Broker) -> None:
    (server,) = (service for service in broker.services if isinstance(service, HttpServer))
    async with httpx.AsyncClient(base_url=server.url, timeout=30) as http:
        fresh = await http.get("/api/v1/orders")
        assert AGE_HEADER not in fresh.headers
        async with stalled(broker, "locked"):
            await run_orders(broker, 0, 10)
            await eventually(lambda: broker.recorder.trouble, within=30)
            ready = await http.get("/readyz")
            assert (ready.status_code, "projection" in ready.text) == (503, True)
            old = await http.get("/api/v1/orders")
            assert (old.status_code, AGE_HEADER in old.headers) == (200, True)
            asked = await broker.client.request("muster.api.orders.list", b"{}", timeout=30)
            assert AGE_HEADER in (asked.headers or {})
        await eventually(lambda: not broker.recorder.trouble, within=60)
        assert AGE_HEADER not in (await http.get("/api/v1/orders")).headers


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_fifty_thousand_orders_run_while_the_tables_are_locked(broker: Broker) -> None:
    loop = asyncio.get_running_loop()
    async with stalled(broker, "locked"):
        await run_orders(broker, 0, 10)
        began = loop.time()
        while (await broker.status()).ready:
            await broker.recorder.caught_up()
        assert loop.time() - began < REPORTED_WITHIN
        await run_orders(broker, 10, 50_000)
        assert broker.recorder._batch is None
        assert await ended(broker) == 0
    await eventually(lambda: not broker.recorder.trouble, within=300, what="the tables have caught up")
    assert await ended(broker) == 50_010
