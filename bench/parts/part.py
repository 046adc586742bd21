"""What every part does: read its settings, say that it is ready, wait for the start, report what it saw."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

S = TypeVar("S", bound=msgspec.Struct)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What every part is given."""

    url: str
    """Where the NATS server is."""
    fast_loop: bool = True
    """Whether it runs on uvloop."""


def emit(**facts: Any) -> None:
    """Writes one line to the process that started this one."""
    sys.stdout.buffer.write(msgspec.json.encode(facts) + b"\n")
    sys.stdout.buffer.flush()


async def started() -> None:
    """Say that everything is set up, and wait for the start."""
    emit(ready=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


def run(kind: type[S], work: Callable[[S], Awaitable[None]]) -> None:
    """Run a part; its settings are the first argument."""
    settings = msgspec.json.decode(sys.argv[1], type=kind)

    async def main() -> None:
        await work(settings)

    if getattr(settings, "fast_loop", False):
        import uvloop

        uvloop.run(main())
    else:
        asyncio.run(main())
