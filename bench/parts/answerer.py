"""Floor of hooks: the same HTTP server, with the same settings, answering each request with an empty 202."""

from __future__ import annotations

import asyncio

from bench.parts.part import Settings, run, started, tell
from muster.mesh.asgi import Receive, Scope, Send
from muster.mesh.http import HttpServer
from muster.mesh.service import rest_the_collector

ACCEPTED = {"type": "http.response.start", "status": 202, "headers": [(b"content-length", b"0")]}
EMPTY = {"type": "http.response.body", "body": b""}


class Answerer(Settings, frozen=True, kw_only=True):
    """Nothing to choose; `url` is not used."""

    url: str = ""


async def accept(_: Scope, __: Receive, send: Send) -> None:
    """Answer without looking."""
    await send(ACCEPTED)
    await send(EMPTY)


async def work(_: Answerer) -> None:
    """Serve until ended."""
    async with HttpServer(accept, "127.0.0.1", 0) as server:
        rest_the_collector()
        await started()
        tell(url=server.url)
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    run(Answerer, work)
