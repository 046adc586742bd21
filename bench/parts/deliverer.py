"""Delivers webhooks over kept connections, one under way on each, as fast as they are answered.

Requests are made, and signed, before the start.  The protocol looks for no more than an answer's
status and length, so that the client is not what is measured.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections import Counter
from functools import partial
from urllib.parse import urlsplit

import msgspec

from bench.parts.part import Settings, emit, run, started


class Deliverer(Settings, frozen=True, kw_only=True):
    """What is delivered; `url` is the HTTP server's."""

    path: str
    count: int
    connections: int = 50
    secret: str = "the secret of the bench"
    first: int = 0
    """The number of the first, which makes its id."""
    filling: int = 400
    """Bytes of text in each body."""


class Connection(asyncio.Protocol):
    """Sends its requests one after the other."""

    def __init__(self, requests: list[bytes], seen: Counter[int], over: asyncio.Future[None]) -> None:
        self._requests, self._seen, self.over = requests, seen, over
        self._buffer = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # TCP has no other
        """Wait for the start."""
        self._transport = transport

    def go_on(self) -> None:
        """The next one, if there is one."""
        if self._requests:
            self._transport.write(self._requests.pop())
        elif not self.over.done():
            self.over.set_result(None)
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        """A part of an answer, mostly the whole."""
        self._buffer = self._buffer + data if self._buffer else data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        start = self._buffer.find(b"content-length: ") + 16
        length = int(self._buffer[start : self._buffer.find(b"\r", start)])
        if len(self._buffer) < end + 4 + length:
            return
        self._seen[int(self._buffer[9:12])] += 1
        self._buffer = b""
        self.go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        """The server closed it."""
        if not self.over.done():
            self.over.set_exception(exc or ConnectionError("the server closed a connection"))


def delivery(settings: Deliverer, host: str, number: int) -> bytes:
    """One request, with an id of its own and its body's signature."""
    body = msgspec.json.encode({"number": number, "action": "go", "text": "x" * settings.filling})
    digest = hmac.new(settings.secret.encode(), body, hashlib.sha256).hexdigest()
    lines = (
        f"POST {settings.path} HTTP/1.1",
        f"host: {host}",
        "user-agent: bench",
        "accept: */*",
        "content-type: application/json",
        f"webhook-id: delivery-{number}",
        f"x-hub-signature-256: sha256={digest}",
        f"content-length: {len(body)}",
    )
    return "\r\n".join((*lines, "", "")).encode() + body


def _itself(connection: Connection) -> Connection:
    return connection


async def work(settings: Deliverer) -> None:
    """Delivers all, and reports how they were answered."""
    loop = asyncio.get_running_loop()
    address = urlsplit(settings.url)
    seen: Counter[int] = Counter()
    made = [
        delivery(settings, address.netloc, number) for number in range(settings.first, settings.first + settings.count)
    ]
    connections: list[Connection] = []
    for place in range(settings.connections):
        connection = Connection(made[place :: settings.connections], seen, loop.create_future())
        await loop.create_connection(partial(_itself, connection), address.hostname or "", address.port or 80)
        connections.append(connection)
    await started()
    begin = time.monotonic_ns()
    for connection in connections:
        connection.go_on()
    await asyncio.gather(*(connection.over for connection in connections))
    emit(begin=begin, end=time.monotonic_ns(), answers={str(status): count for status, count in seen.items()})


if __name__ == "__main__":
    run(Deliverer, work)
