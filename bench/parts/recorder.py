"""Floor: pulls started and done events by batch and commits each batch to SQLite."""

from __future__ import annotations

import asyncio
import sqlite3
import time

import msgspec
import nats
import nats.errors

from bench.parts.part import Settings, emit, run, started


class Recorder(Settings, frozen=True, kw_only=True):
    """Where it records."""

    path: str
    full_sync: bool
    batch: int = 500
    """Events asked for at a time."""
    timeout: float = 0.05
    """Seconds that `fetch` waits for a batch to be full."""
    announce: bool = False
    """Publish a note for each order that is done and committed."""


class Event(msgspec.Struct):
    """Started, or done."""

    id: str
    started: int = 0
    done: int = 0
    state: str = ""


SCHEMA = "CREATE TABLE orders (id TEXT PRIMARY KEY, started INTEGER, done INTEGER)"
PUT_STARTED = "INSERT INTO orders (id, started) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET started = excluded.started"
PUT_DONE = "INSERT INTO orders (id, done) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET done = excluded.done"

_event = msgspec.json.Decoder(Event)


def opened(settings: Recorder) -> sqlite3.Connection:
    """The record's file."""
    connection = sqlite3.connect(settings.path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {'FULL' if settings.full_sync else 'NORMAL'}")
    connection.execute(SCHEMA)
    return connection


def commit(connection: sqlite3.Connection, events: list[Event]) -> None:
    """One transaction."""
    connection.execute("BEGIN")
    connection.executemany(PUT_STARTED, [(event.id, event.started) for event in events if event.started])
    connection.executemany(PUT_DONE, [(event.id, event.done) for event in events if event.done])
    connection.execute("COMMIT")


async def work(settings: Recorder) -> None:
    """Record until the server goes away."""
    connection = opened(settings)
    client = await nats.connect(settings.url, pending_size=-1, allow_reconnect=False)
    subscription = await client.jetstream().pull_subscribe_bind(consumer="record", stream="FLOOR_EVENTS")
    loop = asyncio.get_running_loop()
    await started()
    while True:
        try:
            batch = await subscription.fetch(settings.batch, timeout=settings.timeout)
        except (nats.errors.TimeoutError, TimeoutError):
            continue
        except nats.errors.Error:
            return
        if not batch:
            continue
        events = [_event.decode(message.data) for message in batch]
        await loop.run_in_executor(None, commit, connection, events)
        await batch[-1].ack()
        done = [event.id for event in events if event.done]
        if settings.announce:
            for ident in done:
                await client.publish(f"floor.committed.{ident}", b"")
        emit(count=len(done), at=time.monotonic_ns())


if __name__ == "__main__":
    run(Recorder, work)
