"""Waiting in tests: for an event within a deadline, or until a condition holds.  Never for a time."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar, overload

T = TypeVar("T")

POLL = 0.02


@asynccontextmanager
async def deadline(seconds: float = 10.0, what: str = "") -> AsyncIterator[None]:
    """Fail the test, saying `what` did not happen, if the body takes longer than `seconds`."""
    try:
        async with asyncio.timeout(seconds) as limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        raise AssertionError(f"not within {seconds:g} s{': ' if what else ''}{what}") from None


@overload
async def eventually(check: Callable[[], Awaitable[T]], within: float = ..., what: str = ...) -> T: ...
@overload
async def eventually(check: Callable[[], T], within: float = ..., what: str = ...) -> T: ...
async def eventually(check: Callable[[], Any], within: float = 10.0, what: str = "") -> Any:
    """The first true answer of `check` (plain or async); an AssertionError in it means: not yet.

    Use it where there is no event to wait for: a page, a table, another process.  A failure shows the last complete
    answer: the deadline nearly always interrupts a check, and that says nothing about what was wrong.
    """
    last: object = "none, the first check was interrupted"
    loop = asyncio.get_running_loop()
    end = loop.time() + within
    while True:
        limit = asyncio.timeout_at(end)
        try:
            answer = check()
            if inspect.isawaitable(answer):
                async with limit:
                    answer = await answer
            if answer:
                return answer
            last = answer
        except (AssertionError, TimeoutError) as error:
            last = last if isinstance(error, TimeoutError) and limit.expired() else error
        if loop.time() >= end:
            said = what or inspect.getsource(check).strip() if inspect.isfunction(check) else what
            raise AssertionError(f"not within {within:g} s: {said}; last answer: {last!r}")
        await asyncio.sleep(POLL)
