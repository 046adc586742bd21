"""Floor of hooks: what handling a delivery takes at least, by raw parts in one process.

The same HTTP server with the same settings, the same HMAC over the body, and one JetStream publish by nats-py that
is awaited; then the answer, an empty 202.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac

import nats

from bench.parts.part import Settings, emit, run, started
from muster.mesh.asgi import Receive, Scope, Send
from muster.mesh.http import HttpServer
from muster.mesh.service import rest_the_collector

EMPTY = {"type": "http.response.body", "body": b""}
SIGNATURE = b"x-hub-signature-256"


class Taker(Settings, frozen=True, kw_only=True):
    """Where deliveries go, and how they are signed."""

    subject: str
    secret: str
    each_awaited: bool = True
    """Whether it awaits `publish`, or the acknowledgement of a `publish_async`, which costs less."""


def start(status: int) -> dict[str, object]:
    """Returns the start of an answer."""
    return {"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]}


ACCEPTED, UNAUTHORIZED = start(202), start(401)


async def work(settings: Taker) -> None:
    """Serves until it is ended."""
    client = await nats.connect(settings.url)
    stream = client.jetstream(publish_async_max_pending=10_000)
    secret = settings.secret.encode()

    async def take(scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message["body"]
            more = message.get("more_body", False)
        given = next((value for name, value in scope["headers"] if name == SIGNATURE), b"")
        digest = hmac.new(secret, body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(b"sha256=" + digest.encode(), given):
            await send(UNAUTHORIZED)
        else:
            if settings.each_awaited:
                await stream.publish(settings.subject, body)
            else:
                await (await stream.publish_async(settings.subject, body))
            await send(ACCEPTED)
        await send(EMPTY)

    async with HttpServer(take, "127.0.0.1", 0) as server:
        rest_the_collector()
        await started()
        emit(url=server.url)
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    run(Taker, work)
