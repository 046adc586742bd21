"""Reading server-sent events in tests."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec


class Message(msgspec.Struct, frozen=True):
    """One event of a stream."""

    event: str
    ident: str
    data: Any


@asynccontextmanager
async def events(http: httpx.AsyncClient, path: str, **request: Any) -> AsyncIterator[AsyncIterator[Message]]:
    """The messages of a stream; the stream is open when this is entered."""
    async with http.stream("GET", path, timeout=httpx.Timeout(10, read=30), **request) as answer:
        assert answer.status_code == 200, (await answer.aread()).decode()
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.aiter_lines()
        assert await anext(lines) == ": muster"
        yield _messages(lines)


async def _messages(lines: AsyncIterator[str]) -> AsyncIterator[Message]:
    fields: dict[str, str] = {}
    async for line in lines:
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
        elif not line and "data" in fields:
            yield Message(fields.get("event", ""), fields.get("id", ""), json.loads(fields["data"]))
            fields = {}
        elif not line:
            fields = {}
